//! The PEM files that settings name: there, readable, and holding what they are named for.

use std::{error::Error, path::Path};

use rustls_pki_types::{CertificateDer, pem::PemObject};

use super::PlatformRules;
use crate::{
    shown::quoted_path,
    tls::{TlsCertificates, TlsFiles},
};

impl PlatformRules<'_> {
    pub(super) fn files(&mut self) {
        let (app, database) = (&self.settings.app, &self.settings.database);
        for (name, certificates, key) in [
            ("TLS", app.tls_cert.clone(), app.tls_key.clone()),
            (
                "DATABASE_CLIENT",
                database.client_cert.clone(),
                database.client_key.clone(),
            ),
        ] {
            let (Some(certificates), Some(key)) = (certificates, key) else {
                continue;
            };
            let refused = TlsCertificates::load(TlsFiles { certificates, key }).err();
            self.refuse(
                refused.is_some(),
                &[&format!("{name}_CERT"), &format!("{name}_KEY")],
                refused.map(|error| error.to_string()).unwrap_or_default(),
                "name PEM files that this user may read: the certificate chain, and the private key that belongs to it",
            );
        }
        for (name, file) in [
            ("VAULT_CA_CERT", self.settings.vault.ca_cert.clone()),
            ("DATABASE_CA_CERT", self.settings.database.ca_cert.clone()),
            ("EGRESS_CA_CERT", self.settings.egress.ca_cert.clone()),
        ] {
            let refused = file.and_then(|file| authorities(&file).err());
            self.refuse(
                refused.is_some(),
                &[name],
                refused.unwrap_or_default(),
                "name a PEM file with the certificates of the authorities to trust, which this user may read",
            );
        }
    }
}

/// Whether the file holds certificates; else what is wrong, in one sentence.
fn authorities(file: &Path) -> Result<(), String> {
    let shown = quoted_path(file);
    let text =
        dotmac_bounded_read::read(file).map_err(|error| format!("cannot read {shown}: {error}"))?;
    match CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>() {
        Ok(certificates) if certificates.is_empty() => Err(format!("{shown} holds no certificate")),
        Ok(_) => Ok(()),
        Err(error) => Err(format!(
            "{shown} is not valid PEM: {}",
            dotmac_causes::chain(&error as &dyn Error)
        )),
    }
}
