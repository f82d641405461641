"""The local AWS: moto's server in this process, with what moto lacks or gets wrong added."""
