"""From a built image to a running instance at a cloud: bundled, uploaded, registered, launched, and taken back."""
