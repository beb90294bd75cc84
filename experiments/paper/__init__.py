"""The paper's tables as commands: its published rows beside those measured with the model given."""
