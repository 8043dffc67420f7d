"""How fast whole runs are: beside the engine alone, and beside a plain script of Ray Data and transformers."""
