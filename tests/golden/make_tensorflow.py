"""Write the TensorFlow golden files: `python tests/golden/make_tensorflow.py` with tensorflow and tf_keras installed.

One small image network (SAME convolution at stride 2, depthwise with multiplier 2, fused batch-norm with an eps of its
own, dense) written by TF1's savers (V2, V1, partitioned), as TF1 and Keras SavedModels, TF2 object checkpoints, and as
TensorFlow Lite in float32, float16, dynamic-range int8 and full int8. `tf1.npz` and `tf2.npz` hold the input `x`, the
output `y` and
every variable under its own name (`w/…`), so that a reader is compared with the framework and not with
itself.
"""

import os
import shutil
import sys
from pathlib import Path

os.environ.update(TF_CPP_MIN_LOG_LEVEL="3", CUDA_VISIBLE_DEVICES="", TF_ENABLE_ONEDNN_OPTS="0")

import numpy as np
import tensorflow as tf
import tf_keras

FOLDER = Path(__file__).parent
tf1 = tf.compat.v1
RNG = np.random.default_rng(7)


def write_tf1():
    """Graph mode: V2 with Adam's slots and moving averages, V1, partitioned, a TF1 SavedModel."""
    shutil.rmtree(FOLDER / "tf1_savedmodel", ignore_errors=True)
    with tf.Graph().as_default(), tf1.Session() as session:
        x = tf1.placeholder(tf.float32, (None, 5, 7, 2), name="x")
        with tf1.variable_scope("net"):
            kernel = tf1.get_variable("conv/kernel", (3, 2, 2, 3), use_resource=False)
            y = tf.nn.conv2d(x, kernel, (1, 2, 2, 1), "SAME", name="conv/Conv2D")
            bias = tf1.get_variable("conv/bias", (3,), use_resource=True)
            y = tf.nn.bias_add(y, bias)
            depthwise = tf1.get_variable("depthwise/kernel", (2, 2, 3, 2), use_resource=True)
            y = tf.nn.depthwise_conv2d(y, depthwise, (1, 1, 1, 1), "VALID", name="depthwise/depthwise")
            gamma, beta, mean, variance = (
                tf1.get_variable(f"norm/{name}", (6,), trainable="moving" not in name, use_resource=True)
                for name in ("gamma", "beta", "moving_mean", "moving_variance")
            )
            y, _, _ = tf1.nn.fused_batch_norm(
                y, gamma, beta, mean, variance, epsilon=2e-3, is_training=False, name="norm/FusedBatchNorm"
            )
            y = tf.reshape(y, (-1, 2 * 3 * 6))
            dense = tf1.get_variable(
                "dense/kernel", (36, 4), partitioner=tf1.fixed_size_partitioner(3), use_resource=False
            )
            y = tf.matmul(y, tf.convert_to_tensor(dense), name="dense/MatMul")
            half = tf1.get_variable("half", (5,), tf.bfloat16, initializer=tf1.zeros_initializer(), use_resource=True)
        step = tf1.train.get_or_create_global_step()
        loss = tf.reduce_sum(y**2)
        averages = tf.train.ExponentialMovingAverage(0.9)
        adam = tf1.train.AdamOptimizer(0.01).minimize(loss, step)
        with tf.control_dependencies([adam]):
            train = averages.apply([bias, gamma])
        session.run(tf1.global_variables_initializer())
        for variable in [*tf1.trainable_variables(), mean, variance]:
            shape = variable.shape.as_list()
            low, high = (0.3, 2) if variable is variance else (-0.5, 0.5)
            variable.load(RNG.uniform(low, high, shape).astype(variable.dtype.base_dtype.as_numpy_dtype), session)
        image = RNG.normal(size=(2, 5, 7, 2)).astype("float32")
        session.run(train, {x: image})
        out = {"x": image, "y": session.run(y, {x: image})}
        for variable in tf1.global_variables():
            info = variable._get_save_slice_info() if hasattr(variable, "_get_save_slice_info") else None
            if info is None:
                out["w/" + variable.op.name] = session.run(variable).astype(
                    "float32" if variable.dtype.base_dtype == tf.bfloat16 else variable.dtype.base_dtype.as_numpy_dtype
                )
        out["w/net/dense/kernel"] = session.run(tf.convert_to_tensor(dense))
        np.savez_compressed(FOLDER / "tf1.npz", **out)
        tf1.train.Saver(write_version=tf1.train.SaverDef.V2).save(
            session, str(FOLDER / "tf1_v2.ckpt"), latest_filename="tf1_latest", strip_default_attrs=True
        )
        tf1.train.Saver([v for v in tf1.global_variables() if v is not half], write_version=tf1.train.SaverDef.V1).save(
            session, str(FOLDER / "tf1_v1.ckpt"), latest_filename="tf1_latest", write_meta_graph=False
        )
        builder = tf1.saved_model.Builder(str(FOLDER / "tf1_savedmodel"))
        builder.add_meta_graph_and_variables(session, ["serve"], strip_default_attrs=True)
        builder.save()
    (FOLDER / "tf1_latest").unlink()


def network(layers, model):
    """5 × 7 × 2 images to 3 numbers."""
    x = inputs = layers.Input((5, 7, 2), name="image")
    x = layers.Conv2D(8, 3, strides=2, padding="same", name="conv", activation="relu")(x)
    x = layers.DepthwiseConv2D((2, 3), depth_multiplier=2, name="depthwise")(x)
    x = layers.BatchNormalization(epsilon=2e-3, name="norm")(x)
    x = layers.Conv2DTranspose(4, 2, strides=2, name="up")(x)
    x = layers.Flatten(name="flat")(x)
    x = layers.Dense(20, activation="relu", name="hidden")(x)  # converters leave weights below 1024 values as they are
    return model(inputs, layers.Dense(3, name="logits")(x), name="net")


def write_tf2():
    """Keras 3 and tf_keras: object checkpoints, SavedModels, TensorFlow Lite."""
    image = RNG.normal(size=(2, 5, 7, 2)).astype("float32")
    out = {"x": image}
    for prefix, keras in (("keras3", tf.keras), ("tf_keras", tf_keras)):
        model = network(keras.layers, keras.Model)
        model.set_weights(
            [RNG.uniform(0.3, 2, w.shape).astype("float32") if "variance" in v.name
             else RNG.normal(0, 0.4, w.shape).astype("float32")
             for v, w in zip(model.weights, model.get_weights(), strict=True)]
        )  # fmt: skip
        model.compile(keras.optimizers.Adam(1e-3), "mse")
        model.fit(image, np.zeros((2, 3), "float32"), verbose=0)
        out[f"{prefix}/y"] = model(image, training=False).numpy()
        for layer in model.layers:
            for variable, value in zip(layer.weights, layer.get_weights(), strict=True):
                leaf = variable.name.split(":")[0].split("/")[-1]
                out[f"{prefix}/w/{layer.name}/{leaf}"] = value
        tf.train.Checkpoint(model=model, optimizer=model.optimizer).write(str(FOLDER / f"{prefix}_objects"))
        folder = FOLDER / f"{prefix}_savedmodel"
        shutil.rmtree(folder, ignore_errors=True)
        if prefix == "keras3":
            model.export(str(folder), verbose=False)
            write_lite(model, image)
        else:
            model.save(str(folder), save_format="tf")
    np.savez_compressed(FOLDER / "tf2.npz", **out)


def write_lite(model, image):
    """float32, float16 weights, int8 weights, and all of it int8."""
    for name in ("float32", "float16", "dynamic", "int8"):
        converter = tf.lite.TFLiteConverter.from_keras_model(model)
        if name != "float32":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if name == "float16":
            converter.target_spec.supported_types = [tf.float16]
        if name == "int8":
            converter.representative_dataset = lambda: ([image[i : i + 1]] for i in range(2))
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        (FOLDER / f"{name}.tflite").write_bytes(converter.convert())


if __name__ == "__main__":
    write_tf1()
    write_tf2()
    sys.stderr.write(f"tensorflow {tf.__version__}, tf_keras {tf_keras.__version__}, numpy {np.__version__}\n")
