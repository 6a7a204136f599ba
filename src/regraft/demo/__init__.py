"""The demo: six types of vehicles from 25 photographs each, on layers that TensorFlow trained on ImageNet."""
