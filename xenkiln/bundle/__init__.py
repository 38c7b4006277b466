"""The bundle format of Amazon and Eucalyptus: one image as encrypted parts and a signed manifest."""
