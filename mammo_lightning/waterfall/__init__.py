"""How far an AUC falls from a careless evaluation to one that can be believed."""
