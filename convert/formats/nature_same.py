"""Dopamine and OpenAI Baselines: the Nature-DQN with SAME padding, in an .npz of named arrays.

Images have 84 -> 21 -> 11 -> 11 pixels a side, so the first fully connected layer has 7,744 inputs. Arrays keep the
names that their framework gives them; a ":0" at the end is dropped. Weights of the target network may be in the file.
All of these networks divide bytes by 255.
"""

import functools

from convert.foreign import FORMATS, Format, Layout

_CONVOLUTIONS, _MATRICES = ("Conv", "Conv_1", "Conv_2"), ("fully_connected", "fully_connected_1")
_TensorFlow = functools.partial(Layout, padding="same", channels_last=True, flattened_channels_last=True)
"""A layout of TensorFlow's and JAX's networks, whose images end in channels."""
FORMATS.register("nature-same")(
    Format(
        description=(
            "Dopamine (TensorFlow or JAX) and OpenAI Baselines, an .npz of named arrays written by numpy.savez"
        ),
        layouts=(
            # Dopamine in TensorFlow.
            _TensorFlow(
                tuple(f"Online/{layer}" for layer in (*_CONVOLUTIONS, *_MATRICES)),
                ignored="Target/",
                weight="/weights",
                bias="/biases",
            ),
            # Dopamine in JAX: flax.traverse_util.flatten_dict(bundle["online_params"], sep="/").
            _TensorFlow(
                tuple(f"params/{layer}" for layer in ("Conv_0", "Conv_1", "Conv_2", "Dense_0", "Dense_1")),
                weight="/kernel",
                bias="/bias",
            ),
            # OpenAI Baselines, deepq: models.cnn_to_mlp with hiddens=[512], dueling=False.
            _TensorFlow(
                (
                    *(f"deepq/q_func/convnet/{layer}" for layer in _CONVOLUTIONS),
                    *(f"deepq/q_func/action_value/{layer}" for layer in _MATRICES),
                ),
                ignored="deepq/target_q_func/",
                weight="/weights",
                bias="/biases",
            ),
        ),
    )
)
