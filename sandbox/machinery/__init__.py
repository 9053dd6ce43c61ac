"""What simulators and the demo are built from: servers, processes, faults, certificates, a local AWS."""
