//! A certificate authority per control plane. Made here, because kube-apiserver's own self-signing takes an RSA key and longer.

use anyhow::{Context as _, Result, ensure};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

/// A certificate and its private key, as PEM.
#[derive(Clone, Debug)]
pub struct ServingCertificate {
    /// The certificate.
    pub certificate_pem: String,
    /// Its private key (PKCS 8).
    pub key_pem: String,
}

/// Signs the API server's certificate, and those of proxies that stand in for it.
#[derive(Debug)]
pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(super) pem: String,
    pub(super) der: Vec<u8>,
}

impl Authority {
    pub(super) fn new() -> Result<Self> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "egress-testbed");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?;
        Ok(Self { pem: certificate.pem(), der: certificate.der().to_vec(), issuer: Issuer::new(params, key) })
    }

    /// The certificates of a PEM text.
    pub(super) fn der_of(pem: &str) -> Result<Vec<Vec<u8>>> {
        let certificates = CertificateDer::pem_slice_iter(pem.as_bytes()).map(|certificate| Ok(certificate?.to_vec()));
        let certificates: Vec<_> = certificates.collect::<Result<_>>().context("reading PEM")?;
        ensure!(!certificates.is_empty(), "no certificate in this PEM");
        Ok(certificates)
    }

    /// A certificate for these DNS names and IP addresses.
    pub(super) fn serving(&self, names: &[String]) -> Result<ServingCertificate> {
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name.push(DnType::CommonName, "kube-apiserver");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(ServingCertificate { certificate_pem: certificate.pem(), key_pem: key.serialize_pem() })
    }
}

/// The pair that signs ServiceAccount tokens: (private, public), as PEM.
pub(super) fn token_signing_keys() -> Result<(String, String)> {
    let key = KeyPair::generate()?;
    Ok((key.serialize_pem(), key.public_key_pem()))
}
