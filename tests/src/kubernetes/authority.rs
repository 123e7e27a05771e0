//! The cluster's certificates and keys: of one authority, which signs for the API server and for those who ask it.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    PKCS_RSA_SHA256, RsaKeySize,
};

const MADE: &str = "the names are valid, and keys can be made";

/// Names of the API server. Pods know it by the last ones.
const SERVER: [&str; 4] = ["127.0.0.1", "localhost", "kubernetes.default.svc", "kubernetes.default"];

/// Who has a certificate that the API server knows: the file's name, the name, and the group.
const CLIENTS: [(&str, &str, Option<&str>); 2] = [
    ("admin", "these tests", Some("system:masters")),
    ("controllers", "system:kube-controller-manager", None),
];

/// Where the files are that [`Authority::new`] wrote, all PEM.
#[derive(Clone, Debug)]
pub struct Authority {
    folder: PathBuf,
}

impl Authority {
    /// Writes everything into `folder`.
    #[must_use]
    pub fn new(folder: &Path) -> Self {
        let this = Self { folder: folder.to_owned() };
        let mut authority = CertificateParams::new(Vec::new()).expect(MADE);
        authority.distinguished_name.push(DnType::CommonName, "the authority of a cluster of these tests");
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect(MADE);
        this.write(&this.ca(), &authority.self_signed(&key).expect(MADE).pem());
        let issuer = Issuer::new(authority, key);

        let server = CertificateParams::new(SERVER.map(str::to_owned).to_vec()).expect(MADE);
        this.sign(&issuer, "server", server, ExtendedKeyUsagePurpose::ServerAuth);
        for (file, name, group) in CLIENTS {
            let mut client = CertificateParams::new(Vec::new()).expect(MADE);
            client.distinguished_name.push(DnType::CommonName, name);
            if let Some(group) = group {
                client.distinguished_name.push(DnType::OrganizationName, group);
            }
            this.sign(&issuer, file, client, ExtendedKeyUsagePurpose::ClientAuth);
        }
        // Clusters sign their tokens with RSA, as a rule.
        let tokens = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).expect(MADE);
        this.write(&this.token_key(), &tokens.serialize_pem());
        this
    }

    fn sign(
        &self,
        issuer: &Issuer<'_, KeyPair>,
        name: &str,
        mut of: CertificateParams,
        usage: ExtendedKeyUsagePurpose,
    ) {
        of.extended_key_usages.push(usage);
        let key = KeyPair::generate().expect(MADE);
        let certificate = of.signed_by(&key, issuer).expect(MADE);
        self.write(&self.certificate(name), &certificate.pem());
        self.write(&self.key(name), &key.serialize_pem());
    }

    fn write(&self, path: &Path, text: &str) {
        std::fs::write(path, text).expect("there is room for small files");
    }

    /// The authority's own certificate.
    #[must_use]
    pub fn ca(&self) -> PathBuf {
        self.folder.join("ca.crt")
    }

    /// What signs the tokens of ServiceAccounts.
    #[must_use]
    pub fn token_key(&self) -> PathBuf {
        self.folder.join("tokens.key")
    }

    /// The certificate of `server`, `admin` or `controllers`.
    #[must_use]
    pub fn certificate(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.crt"))
    }

    /// The key of `server`, `admin` or `controllers`.
    #[must_use]
    pub fn key(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.key"))
    }
}
