"""The embedded server: the two endpoints over real ipykernels on this machine."""
