//! What is registered: the results of `DUMP`.

use super::xdr::Reader;

/// The most that is taken: more than any host has services.
const MOST: usize = 4096;

/// A service and where it listens.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Registration {
    /// The number of its program.
    pub program: u32,
    /// The version of that.
    pub version: u32,
    /// The transport: `udp`, `tcp`, `udp6`, `tcp6`, `local`, or the number of an IP protocol that has no such name.
    pub netid: String,
    /// The port, of transports that have one.
    pub port: Option<u32>,
    /// What only versions 3 and 4 tell.
    pub more: Option<More>,
}

/// What version 2 does not tell.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct More {
    /// The universal address (RFC 5665): `0.0.0.0.0.111`; or the path of a socket.
    pub address: String,
    /// Who has registered it.
    pub owner: String,
}

impl Registration {
    /// `struct mapping` of RFC 1833, section 3.1.
    fn mapping(reader: &mut Reader<'_>) -> Result<Self, String> {
        let (program, version) = (reader.word()?, reader.word()?);
        let netid = match reader.word()? {
            6 => "tcp".to_owned(),
            17 => "udp".to_owned(),
            other => other.to_string(),
        };
        Ok(Self { program, version, netid, port: Some(reader.word()?), more: None })
    }

    /// `struct rpcb` of RFC 1833, section 2.1.
    fn rpcb(reader: &mut Reader<'_>) -> Result<Self, String> {
        let (program, version) = (reader.word()?, reader.word()?);
        let (netid, address, owner) = (reader.text()?, reader.text()?, reader.text()?);
        let port = port(&address);
        Ok(Self { program, version, netid, port, more: Some(More { address, owner }) })
    }
}

/// The last two parts of a universal address are the bytes of the port.
fn port(address: &str) -> Option<u32> {
    let mut parts = address.rsplitn(3, '.');
    let mut byte = || parts.next()?.parse::<u8>().ok().map(u32::from);
    let (low, high) = (byte()?, byte()?);
    parts.next().filter(|host| !host.contains('/')).map(|_| 256 * high + low)
}

/// The list that `DUMP` of a version gives.
///
/// # Errors
/// The results are no such list; says why.
pub fn registrations(version: u32, results: &[u8]) -> Result<Vec<Registration>, String> {
    let mut reader = Reader(results);
    let mut list = Vec::new();
    while reader.more()? {
        if list.len() == MOST {
            return Err(format!("it has more than {MOST} entries"));
        }
        list.push(match version {
            2 => Registration::mapping(&mut reader)?,
            _ => Registration::rpcb(&mut reader)?,
        });
    }
    match reader.0.len() {
        0 => Ok(list),
        1 => Err("1 byte follows its end".to_owned()),
        more => Err(format!("{more} bytes follow its end")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn words(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_be_bytes()).collect()
    }

    fn text(text: &str) -> Vec<u8> {
        let mut bytes = [&words(&[text.len() as u32]), text.as_bytes()].concat();
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    /// As a server writes it.
    fn encode(version: u32, list: &[Registration]) -> Vec<u8> {
        let entry = |it: &Registration| {
            let head = words(&[1, it.program, it.version]);
            match (&it.more, &*it.netid) {
                (Some(More { address, owner }), netid) if version != 2 => {
                    [head, text(netid), text(address), text(owner)].concat()
                }
                (_, netid) => {
                    let protocol = match netid {
                        "tcp" => 6,
                        "udp" => 17,
                        number => number.parse().unwrap(),
                    };
                    [head, words(&[protocol, it.port.unwrap()])].concat()
                }
            }
        };
        list.iter().flat_map(entry).chain(words(&[0])).collect()
    }

    fn mapping() -> impl Strategy<Value = Registration> {
        let netid = prop_oneof![Just("tcp".to_owned()), Just("udp".to_owned()), Just("132".to_owned())];
        (any::<u32>(), any::<u32>(), netid, any::<u32>()).prop_map(|(program, version, netid, port)| {
            Registration { program, version, netid, port: Some(port), more: None }
        })
    }

    fn rpcb() -> impl Strategy<Value = Registration> {
        let address = prop_oneof![
            any::<(std::net::IpAddr, u16)>().prop_map(|(ip, port)| {
                (format!("{ip}.{}.{}", port >> 8, port & 0xff), Some(u32::from(port)))
            }),
            Just(("/run/rpcbind.sock".to_owned(), None)),
            Just((String::new(), None)),
        ];
        (any::<u32>(), any::<u32>(), "[a-z0-9]{0,9}", address, "\\PC{0,20}").prop_map(
            |(program, version, netid, (address, port), owner)| Registration {
                program,
                version,
                netid,
                port,
                more: Some(More { address, owner }),
            },
        )
    }

    proptest! {
        #[test]
        fn lists_are_decoded_to_what_was_encoded(v2 in vec(mapping(), 0..20), v3 in vec(rpcb(), 0..20)) {
            prop_assert_eq!(registrations(2, &encode(2, &v2)), Ok(v2));
            prop_assert_eq!(registrations(3, &encode(3, &v3)), Ok(v3.clone()));
            prop_assert_eq!(registrations(4, &encode(4, &v3)), Ok(v3));
        }

        #[test]
        fn any_bytes_are_a_list_or_an_error(bytes in vec(any::<u8>(), 0..300), version in 2..=4_u32) {
            let _ = registrations(version, &bytes);
        }

        #[test]
        fn lists_that_were_damaged_are_a_list_or_an_error(
            list in vec(rpcb(), 0..8), byte in any::<u8>(), at in any::<prop::sample::Index>()
        ) {
            let mut bytes = encode(4, &list);
            let at = at.index(bytes.len());
            // Cut anywhere, it is never taken for whole.
            prop_assert!(registrations(4, &bytes[..at]).is_err());
            bytes[at] = byte;
            let _ = registrations(4, &bytes);
            let _ = registrations(2, &bytes);
        }
    }

    #[test]
    fn a_liar_is_told_from_a_server() {
        let entry = words(&[1, 100_000, 2, 17, 111]);
        let told = |bytes: &[u8]| registrations(2, bytes).unwrap_err();
        assert_eq!(told(&entry.repeat(MOST + 1)), "it has more than 4096 entries");
        assert_eq!(told(&entry), "it is cut short");
        assert_eq!(told(&[entry.clone(), words(&[0, 7])].concat()), "4 bytes follow its end");
        assert_eq!(told(&words(&[2])), "2 is found where 0 (end) or 1 (more) must be");
        let told = registrations(4, &words(&[1, 100_000, 4, u32::MAX])).unwrap_err();
        assert_eq!(told, "it has a text of 4294967295 bytes, but the limit is 1024");
    }

    #[test]
    fn ports_are_where_addresses_have_them() {
        for (address, expected) in [
            ("0.0.0.0.0.111", Some(111)),
            ("192.0.2.1.8.1", Some(2049)),
            ("::.255.255", Some(65_535)),
            ("fe80::1%eth0.0.111", Some(111)),
            ("/run/rpcbind.sock", None),
            ("/run/a.0.111", None),
            ("0.111", None),
            ("0.0.0.0.256.1", None),
            ("", None),
        ] {
            assert_eq!(port(address), expected, "{address}");
        }
    }
}
