"""Clusters that are made for a run: what is written for KubeRay, and for `ray up` on AWS and GCP."""
