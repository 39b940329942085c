//! Seals secrets with a key of their tenant, and that key with a key which only the engines have.
//!
//! AES-256-GCM, with a random nonce in front of each sealed text. What a text belongs to (its tenant, and for a secret its
//! name and its hosts) is authenticated with it: a sealed text that is moved to another row, or whose hosts are changed in
//! the database, cannot be opened.

use std::fmt;

use cerebelum_history::{Digest, Timestamp};
use cerebelum_store::{DataKey, Egress, StoredSecret, TenantId};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

/// The bytes of a key.
const KEY_BYTES: usize = 32;
/// The digits of a key's id.
const KEY_ID_DIGITS: usize = 16;

/// A key of the engines, with which the keys of tenants are sealed.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretsKey([u8; KEY_BYTES]);

impl SecretsKey {
    /// Reads keys from a file's text: 64 hex digits a line. Empty lines, and those that begin with `#`, are skipped.
    ///
    /// # Errors
    /// One line for a person. It does not quote the text.
    pub fn read_all(text: &str) -> Result<Vec<Self>, String> {
        let lines =
            text.lines().map(str::trim).enumerate().filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
        let keys = lines.map(|(index, line)| {
            let mut key = [0; KEY_BYTES];
            let wrong =
                |_| format!("line {} is not a key: write 64 hex digits, as `openssl rand -hex 32` does", index + 1);
            hex::decode_to_slice(line, &mut key).map_err(wrong).map(|()| Self(key))
        });
        let keys: Vec<Self> = keys.collect::<Result<_, _>>()?;
        match keys.is_empty() {
            true => Err("there is no key: write 64 hex digits, as `openssl rand -hex 32` does".to_owned()),
            false => Ok(keys),
        }
    }

    /// Names the key without telling it.
    fn id(&self) -> String {
        Digest::of(&[b"cerebelum secrets key".as_slice(), &self.0].concat()).as_str()[..KEY_ID_DIGITS].to_owned()
    }

    fn cipher(&self) -> LessSafeKey {
        cipher(&self.0)
    }
}

impl fmt::Debug for SecretsKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretsKey({})", self.id())
    }
}

/// The keys of the engines. New keys of tenants are sealed with the first one; the others only open.
#[derive(Debug, Clone, Default)]
pub(crate) struct Vault {
    keys: Vec<SecretsKey>,
}

/// The key of a tenant's secrets.
pub(crate) struct TenantKey {
    tenant: TenantId,
    cipher: LessSafeKey,
}

impl Vault {
    pub(crate) fn new(keys: Vec<SecretsKey>) -> Self {
        Self { keys }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// A new key for a tenant, and the same one sealed; none if the engine has no key.
    pub(crate) fn new_key(&self, tenant: TenantId) -> Option<(TenantKey, DataKey)> {
        let ours = self.keys.first()?;
        let bytes: [u8; KEY_BYTES] = rand::random();
        let wrapped = seal(&ours.cipher(), &belongs_to(tenant), &bytes);
        Some((TenantKey { tenant, cipher: cipher(&bytes) }, DataKey { key_id: ours.id(), wrapped }))
    }

    /// The key of a tenant; none if it has none yet, or this engine lacks the key with which it was sealed.
    pub(crate) fn key_of(&self, tenant: TenantId, stored: &Egress) -> Option<TenantKey> {
        self.open_key(tenant, stored.key.as_ref()?)
    }

    fn open_key(&self, tenant: TenantId, sealed: &DataKey) -> Option<TenantKey> {
        let ours = self.keys.iter().find(|key| key.id() == sealed.key_id)?;
        let bytes = open(&ours.cipher(), &belongs_to(tenant), &sealed.wrapped)?;
        Some(TenantKey { tenant, cipher: cipher(&bytes.try_into().ok()?) })
    }
}

impl TenantKey {
    /// Seals the value of the secret with this name, which may go to these hosts. The store sets the times.
    pub(crate) fn seal(&self, name: &str, hosts: &str, value: &str) -> StoredSecret {
        let sealed = seal(&self.cipher, &self.describe(name, hosts), value.as_bytes());
        let (created_at, changed_at) = (Timestamp(0), Timestamp(0));
        StoredSecret { name: name.to_owned(), hosts: hosts.to_owned(), sealed, created_at, changed_at }
    }

    /// Opens it again; none if its name, its hosts or its text is not as it was sealed.
    pub(crate) fn open(&self, secret: &StoredSecret) -> Option<String> {
        let of = self.describe(&secret.name, &secret.hosts);
        String::from_utf8(open(&self.cipher, &of, &secret.sealed)?).ok()
    }

    /// What a sealed secret belongs to. Names have no line breaks.
    fn describe(&self, name: &str, hosts: &str) -> Vec<u8> {
        format!("cerebelum secret 1\n{}\n{name}\n{hosts}", self.tenant.0).into_bytes()
    }
}

/// What the sealed key of a tenant belongs to.
fn belongs_to(tenant: TenantId) -> Vec<u8> {
    format!("cerebelum data key 1\n{}", tenant.0).into_bytes()
}

fn cipher(key: &[u8; KEY_BYTES]) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).expect("a key of this length"))
}

fn seal(cipher: &LessSafeKey, of: &[u8], text: &[u8]) -> Vec<u8> {
    let nonce: [u8; NONCE_LEN] = rand::random();
    let mut sealed = text.to_vec();
    cipher
        .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(of), &mut sealed)
        .expect("a text that is shorter than 64 GiB");
    [nonce.as_slice(), &sealed].concat()
}

fn open(cipher: &LessSafeKey, of: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
    let (nonce, sealed) = sealed.split_first_chunk::<NONCE_LEN>()?;
    let mut text = sealed.to_vec();
    let opened = cipher.open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(of), &mut text).ok()?;
    Some(opened.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTS: &str = r#"["api.example.com"]"#;

    fn key(digit: char) -> SecretsKey {
        SecretsKey::read_all(&digit.to_string().repeat(64)).unwrap().remove(0)
    }

    #[test]
    fn keys_are_read_line_by_line_and_shown_by_no_message() {
        let text = format!("# first\n{}\n\n  {}  \n", "0a".repeat(32), "FF".repeat(32));
        assert_eq!(SecretsKey::read_all(&text).unwrap().len(), 2);
        for wrong in ["", "# only this\n", &"0".repeat(63), &"g".repeat(64), &"0".repeat(66)] {
            let why = SecretsKey::read_all(wrong).unwrap_err();
            assert!(why.contains("openssl") && !why.contains("ggg") && !why.contains("000"), "{why}");
        }
        assert!(!format!("{:?}", key('a')).contains("aaaa"));
    }

    #[test]
    fn a_secret_is_opened_where_it_belongs_and_nowhere_else() {
        let vault = Vault::new(vec![key('1')]);
        let (ours, sealed) = vault.new_key(TenantId(7)).unwrap();
        let secret = ours.seal("TOKEN", HOSTS, "s3cret ü");
        assert!(!secret.sealed.windows(6).any(|part| part == b"s3cret"));
        assert_ne!(secret, ours.seal("TOKEN", HOSTS, "s3cret ü"), "no nonce is used twice");
        let again = vault.open_key(TenantId(7), &sealed).unwrap();
        assert_eq!(again.open(&secret).as_deref(), Some("s3cret ü"));
        assert_eq!(again.open(&StoredSecret { name: "OTHER".into(), ..secret.clone() }), None);
        assert_eq!(again.open(&StoredSecret { hosts: r#"["evil.example.com"]"#.into(), ..secret.clone() }), None);
        assert!(vault.open_key(TenantId(8), &sealed).is_none(), "of another tenant");
        let (other, _) = vault.new_key(TenantId(7)).unwrap();
        assert_eq!(other.open(&secret), None);
        for at in 0..secret.sealed.len() {
            let mut changed = secret.clone();
            changed.sealed[at] ^= 1;
            assert_eq!(again.open(&changed), None, "byte {at}");
        }
        assert_eq!(again.open(&StoredSecret { sealed: b"short".to_vec(), ..secret }), None);
    }

    #[test]
    fn an_older_key_opens_and_only_the_first_one_seals() {
        let (_, sealed) = Vault::new(vec![key('1')]).new_key(TenantId(7)).unwrap();
        let both = Vault::new(vec![key('2'), key('1')]);
        assert!(both.open_key(TenantId(7), &sealed).is_some());
        let (_, renewed) = both.new_key(TenantId(7)).unwrap();
        assert_ne!(renewed.key_id, sealed.key_id);
        let only_new = Vault::new(vec![key('2')]);
        assert!(
            only_new.open_key(TenantId(7), &sealed).is_none() && only_new.open_key(TenantId(7), &renewed).is_some()
        );
        assert!(Vault::default().new_key(TenantId(7)).is_none());
    }
}
