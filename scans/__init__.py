"""What both halves must do alike to a scan: catalog, reading, and the road into network space and back."""
