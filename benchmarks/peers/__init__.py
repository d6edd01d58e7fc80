"""Other certificate servers with the same API, run beside meshsigner under the same load."""
