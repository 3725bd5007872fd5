"""How the network of ``--tissue unet`` is made: scenes, network, training, export."""
