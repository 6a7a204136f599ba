"""Write graphs of TensorFlow and TensorFlow Lite with many operations, and what TensorFlow computes for them.

Run in an environment with TensorFlow (requirements.txt): python make_graphs.py
Writes graph_operations.pb, .tflite and .npz; graph_training.ckpt.* and .npz; graph_savedmodel/.
"""

import shutil
from pathlib import Path

import numpy as np
import tensorflow as tf

HERE = Path(__file__).parent
rng = np.random.default_rng(0)


def floats(*shape):
    return tf.constant(rng.normal(size=shape).astype("float32") * 0.5)


K, DW, DENSE, UP, BIAS = floats(3, 3, 4, 6), floats(3, 3, 4, 2), floats(16, 5), floats(3, 3, 5, 4), floats(6)
SCALE, SHIFT, MEAN, VAR = floats(4), floats(4), floats(4), tf.abs(floats(4)) + 0.5
TABLE = floats(7, 3)

# name → function of x (2, 4, 6, 4), in TensorFlow Lite's set too unless it begins with tf_
OPERATIONS = {
    "relu": lambda x: tf.nn.relu(x),
    "relu6": lambda x: tf.nn.relu6(4 * x),
    "sigmoid": lambda x: tf.sigmoid(x),
    "tanh": lambda x: tf.tanh(x),
    "exp": lambda x: tf.exp(x),
    "log": lambda x: tf.math.log(tf.abs(x) + 1),
    "sqrt": lambda x: tf.sqrt(tf.abs(x)),
    "rsqrt": lambda x: tf.math.rsqrt(tf.abs(x) + 1),
    "square": lambda x: tf.square(x),
    "floor": lambda x: tf.floor(x),
    "ceil": lambda x: tf.math.ceil(x),
    "round": lambda x: tf.round(x),
    "sin": lambda x: tf.sin(x),
    "cos": lambda x: tf.cos(x),
    "elu": lambda x: tf.nn.elu(x),
    "leaky": lambda x: tf.nn.leaky_relu(x, 0.3),
    "gelu": lambda x: tf.nn.gelu(x),
    "neg": lambda x: -x,
    "abs": lambda x: tf.abs(x),
    "tf_softplus": lambda x: tf.nn.softplus(x),
    "tf_selu": lambda x: tf.nn.selu(x),
    "tf_erf": lambda x: tf.math.erf(x),
    "add": lambda x: x + x[:, :1],
    "mul": lambda x: x * SCALE,
    "sub": lambda x: 1.5 - x,
    "div": lambda x: x / (tf.abs(x) + 1),
    "pow": lambda x: tf.pow(tf.abs(x), 1.5),
    "maximum": lambda x: tf.maximum(x, 0.3 * x),
    "minimum": lambda x: tf.minimum(x, 0.5),
    "squared_difference": lambda x: tf.math.squared_difference(x, 1.0),
    "select": lambda x: tf.where(x > 0, x, 2 * x),
    "tf_div_no_nan": lambda x: tf.math.divide_no_nan(x, tf.nn.relu(x)),
    "floor_mod": lambda x: tf.math.floormod(x, 0.7),
    "mean": lambda x: tf.reduce_mean(x, [1, 2]),
    "mean_keep": lambda x: tf.reduce_mean(x, [1, 2], keepdims=True),
    "sum": lambda x: tf.reduce_sum(x, -1),
    "max": lambda x: tf.reduce_max(x, 2),
    "min": lambda x: tf.reduce_min(x, 1),
    "argmax": lambda x: tf.cast(tf.argmax(x, -1), tf.float32),
    "softmax": lambda x: tf.nn.softmax(x),
    "log_softmax": lambda x: tf.nn.log_softmax(x),
    "cumsum": lambda x: tf.cumsum(x, 1),
    "topk": lambda x: tf.math.top_k(x, 2).values,
    "reshape": lambda x: tf.reshape(x, [-1, 24, 4]),
    "transpose": lambda x: tf.transpose(x, [0, 3, 1, 2]),
    "concat": lambda x: tf.concat([x, 2 * x], 3),
    "concat_rows": lambda x: tf.concat([x, x[:, 2:]], 1),
    "stack": lambda x: tf.stack([x, -x], 1),
    "unstack": lambda x: tf.unstack(x, axis=3)[1],
    "split": lambda x: tf.split(x, 2, 3)[1],
    "split_sizes": lambda x: tf.split(x, [1, 3], 3)[1],
    "slice": lambda x: tf.slice(x, [0, 1, 2, 0], [-1, 2, -1, 2]),
    "strided_slice": lambda x: x[:, 1:4:2, ::3, 1],
    "new_axis": lambda x: x[:, tf.newaxis, 2:],
    "squeeze": lambda x: tf.squeeze(x[:, :1], 1),
    "expand": lambda x: tf.expand_dims(x, -1),
    "tile": lambda x: tf.tile(x, [1, 2, 1, 3]),
    "reverse": lambda x: tf.reverse(x, [2]),
    "gather": lambda x: tf.gather(x, [2, 0], axis=2),
    "embedding": lambda x: tf.gather(TABLE, tf.cast(tf.abs(x[:, 0, 0]), tf.int32)),
    "gather_nd": lambda x: tf.gather_nd(x, [[0, 1], [1, 2]]),
    "pad": lambda x: tf.pad(x, [[0, 0], [1, 2], [0, 1], [0, 0]]),
    "pad_value": lambda x: tf.pad(x, [[0, 0], [1, 2], [0, 1], [0, 0]], constant_values=3.0),
    "pad_reflect": lambda x: tf.pad(x, [[0, 0], [1, 2], [0, 1], [0, 0]], "REFLECT"),
    "pad_symmetric": lambda x: tf.pad(x, [[0, 0], [1, 2], [0, 1], [0, 0]], "SYMMETRIC"),
    "one_hot": lambda x: tf.one_hot(tf.argmax(x, -1), 5),
    "broadcast": lambda x: tf.broadcast_to(x[:, :1], [2, 4, 6, 4]),
    "like": lambda x: x + tf.ones_like(x),
    "shape": lambda x: tf.reshape(x, [tf.shape(x)[0], tf.shape(x)[1] * tf.shape(x)[2], 4]),
    "fill": lambda x: x[:, 0, 0] + tf.fill([tf.shape(x)[0], 4], 2.0),
    "depth_to_space": lambda x: tf.nn.depth_to_space(x, 2),
    "space_to_depth": lambda x: tf.nn.space_to_depth(x, 2),
    "tf_batches": lambda x: tf.batch_to_space(tf.space_to_batch(x, [2, 2], [[0, 0], [0, 0]]), [2, 2], [[0, 0], [0, 0]]),
    "resize": lambda x: tf.compat.v1.image.resize_bilinear(x, [9, 5]),
    "resize_half": lambda x: tf.compat.v1.image.resize_bilinear(x, [8, 12], half_pixel_centers=True),
    "resize_align": lambda x: tf.compat.v1.image.resize_bilinear(x, [8, 12], align_corners=True),
    "nearest": lambda x: tf.compat.v1.image.resize_nearest_neighbor(x, [9, 12]),
    "nearest_half": lambda x: tf.compat.v1.image.resize_nearest_neighbor(x, [8, 12], half_pixel_centers=True),
    "nearest_align": lambda x: tf.compat.v1.image.resize_nearest_neighbor(x, [9, 12], align_corners=True),
    "lrn": lambda x: tf.nn.local_response_normalization(x, 1, 1.0, 0.2, 0.6),
    "matmul": lambda x: tf.matmul(x, tf.transpose(x, [0, 1, 3, 2])),
    "einsum": lambda x: tf.einsum("bhwc,cd->bhwd", x, K[0, 0]),
    "max_pool": lambda x: tf.nn.max_pool2d(x, 3, 2, "SAME"),
    "average_pool": lambda x: tf.nn.avg_pool2d(x, 3, 2, "SAME"),
    "average_valid": lambda x: tf.nn.avg_pool2d(x, 2, 2, "VALID"),
    "conv": lambda x: tf.nn.relu(tf.nn.bias_add(tf.nn.conv2d(x, K, 2, "SAME"), BIAS)),
    "conv_holes": lambda x: tf.nn.conv2d(x, K, 1, "VALID", dilations=[1, 2]),
    "depthwise": lambda x: tf.nn.depthwise_conv2d(x, DW, [1, 1, 1, 1], "SAME") + SHIFT[0],
    "conv_transpose": lambda x: tf.nn.conv2d_transpose(x, UP, [2, 8, 12, 5], 2, "SAME"),
    "conv_transpose_valid": lambda x: tf.nn.conv2d_transpose(x, UP, [2, 9, 13, 5], 2, "VALID"),
    "dense": lambda x: tf.matmul(tf.reshape(x[:, :, :1], [-1, 16]), DENSE) + 0.5 * DENSE[0],
    "norm": lambda x: tf.nn.batch_normalization(x, MEAN, VAR, SHIFT, SCALE, 1e-3),
    "tf_fused_norm": lambda x: tf.compat.v1.nn.fused_batch_norm(x, SCALE, SHIFT, MEAN, VAR, is_training=False)[0],
    "l2": lambda x: tf.math.l2_normalize(x, -1),
    "prelu": lambda x: tf.nn.relu(x) - SCALE * tf.nn.relu(-x),
    "logical": lambda x: tf.cast(tf.logical_and(x > 0, tf.logical_not(x > 1)), tf.float32),
}


def frozen(function, x):
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    concrete = tf.function(function).get_concrete_function(tf.TensorSpec(x.shape, tf.float32, name="x"))
    return convert_variables_to_constants_v2(concrete)


def operations():
    x = rng.normal(size=(2, 4, 6, 4)).astype("float32")

    def every(x):
        return [tf.identity(function(x), name=f"out_{name}") for name, function in OPERATIONS.items()]

    graph = frozen(every, x).graph.as_graph_def()
    (HERE / "graph_operations.pb").write_bytes(graph.SerializeToString())
    results = {name: function(tf.constant(x)).numpy() for name, function in OPERATIONS.items()}
    names = [name for name in OPERATIONS if not name.startswith("tf_")]

    def lite(x):
        return {f"out_{name}": OPERATIONS[name](x) for name in names}

    concrete = tf.function(lite).get_concrete_function(tf.TensorSpec(x.shape, tf.float32, name="x"))
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete])
    content = converter.convert()
    (HERE / "graph_operations.tflite").write_bytes(content)
    runner = tf.lite.Interpreter(
        model_content=content,
        experimental_op_resolver_type=tf.lite.experimental.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    runner.allocate_tensors()
    runner.set_tensor(runner.get_input_details()[0]["index"], x)
    runner.invoke()
    details = runner.get_output_details()
    order = [named(runner.get_tensor(detail["index"]), results, names) for detail in details]
    np.savez_compressed(HERE / "graph_operations.npz", x=x, lite_names=np.array(order), **results)


def training():
    """A TF1 graph as it is trained: convolution, batch-norm and dropout with a placeholder, a loss, a saver."""
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        v1.set_random_seed(1)
        x = v1.placeholder(tf.float32, [None, 8, 8, 3], name="X")
        y = v1.placeholder(tf.int32, [None], name="y")
        training = v1.placeholder_with_default(False, [], name="training")
        v1.placeholder_with_default(0.0, [], name="rate")

        def get(name, shape):
            return v1.get_variable(name, shape, initializer=v1.random_normal_initializer(stddev=0.3))

        with v1.variable_scope("conv1"):
            h = tf.nn.bias_add(tf.nn.conv2d(x, get("kernel", [3, 3, 3, 4]), 2, "SAME"), get("bias", [4]))
        with v1.variable_scope("norm"):
            gamma, beta, mean = get("gamma", [4]), get("beta", [4]), get("moving_mean", [4])
            variance = v1.get_variable("moving_variance", [4], initializer=v1.ones_initializer())

            def train_norm():
                out, m, v = v1.nn.fused_batch_norm(h, gamma, beta, epsilon=1e-3)
                with tf.control_dependencies(
                    [mean.assign_sub(0.1 * (mean - m)), variance.assign_sub(0.1 * (variance - v))]
                ):
                    return tf.identity(out)

            v1.disable_control_flow_v2()
            h = v1.cond(
                training,
                train_norm,
                lambda: v1.nn.fused_batch_norm(h, gamma, beta, mean, variance, epsilon=1e-3, is_training=False)[0],
            )
        h = tf.nn.relu(h)
        h = v1.cond(training, lambda: v1.nn.dropout(h, rate=0.4), lambda: tf.identity(h), name="dropout")
        h = tf.reshape(h, [-1, 4 * 4 * 4])
        with v1.variable_scope("fc"):
            logits = tf.matmul(h, get("kernel", [64, 5])) + get("bias", [5])
        logits = tf.identity(logits, name="logits")
        loss = tf.reduce_mean(v1.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=logits), name="loss")
        v1.train.AdamOptimizer(0.01).minimize(loss)
        v1.summary.scalar("loss", loss)
        tf.reduce_mean(tf.cast(tf.math.in_top_k(y, logits, 1), tf.float32), name="accuracy")
        session.run(v1.global_variables_initializer())
        images = rng.normal(size=(3, 8, 8, 3)).astype("float32")
        v1.train.Saver().save(session, str(HERE / "graph_training.ckpt"))
        np.savez_compressed(HERE / "graph_training.npz", x=images, logits=session.run(logits, {x: images}))


def named(value, results, names):
    """The operation whose result an output of TensorFlow Lite is: outputs have no names of their own."""
    near = [
        name for name in names if results[name].shape == value.shape and np.allclose(results[name], value, atol=1e-3)
    ]
    return near[0]


class Module(tf.Module):
    def __init__(self):
        super().__init__()
        self.kernel, self.bias = tf.Variable(floats(4, 3), name="kernel"), tf.Variable(floats(3), name="bias")

    @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32, name="x")])
    def __call__(self, x):
        return {"result": self.inner(x)}

    @tf.function
    def inner(self, x):
        return tf.nn.relu(tf.matmul(x, self.kernel) + self.bias)


def saved_model():
    folder = HERE / "graph_savedmodel"
    shutil.rmtree(folder, ignore_errors=True)
    module, x = Module(), rng.normal(size=(5, 4)).astype("float32")
    tf.saved_model.save(module, str(folder), signatures=module.__call__)
    np.savez_compressed(HERE / "graph_savedmodel.npz", x=x, result=module(x)["result"].numpy())


if __name__ == "__main__":
    operations()
    training()
    saved_model()
