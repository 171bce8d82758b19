//! The register-only peaks of this machine: what no kernel can exceed.
