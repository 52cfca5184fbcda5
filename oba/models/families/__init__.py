"""One module per kind of net, found by its name.

Each has ``build(name, num_classes=…, input_size=…)``, those of libraries also with the ``tag`` of pretrained weights,
and ``classifier(net)``, the names of the layers that tell the classes apart.
"""
