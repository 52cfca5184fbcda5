"""One module per kind of net, found by its name: ``build(name, num_classes=…, input_size=…, pretrained=…)``."""
