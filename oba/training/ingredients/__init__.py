"""What only some recipes need, most of it by timm: a training that does without does not depend on it."""
