//! The options of an export, as exports(5) of nfs-utils 2.8 has them. exportfs refuses a table from the first one on that it does not know.

/// Those without a value.
const WORDS: [&str; 35] = [
    "acl",
    "all_squash",
    "async",
    "auth_nlm",
    "crossmnt",
    "hide",
    "insecure",
    "insecure_locks",
    "mountpoint",
    "mp",
    "no_acl",
    "no_all_squash",
    "no_auth_nlm",
    "no_pnfs",
    "no_root_squash",
    "no_subtree_check",
    "no_wdelay",
    "nocrossmnt",
    "nohide",
    "nordirplus",
    "pnfs",
    "ro",
    "root_squash",
    "rw",
    "secure",
    "secure_locks",
    "security_label",
    "subtree_check",
    "sync",
    "wdelay",
    // Of the releases before.
    "map_daemon",
    "map_identity",
    "no_security_label",
    "ugidd",
    "nosubtree_check",
];
/// Those with a value, which is not judged here.
const WITH_VALUES: [&str; 9] =
    ["mountpoint", "mp", "refer", "replicas", "squash_uids", "squash_gids", "reexport", "xprtsec", "mapping"];
/// The values of `sec`.
const FLAVORS: [&str; 7] = ["krb5", "krb5i", "krb5p", "unix", "sys", "null", "none"];

/// What exportfs refuses in options, which are separated by commas; none if there is nothing.
pub(super) fn mistake(options: &str) -> Option<String> {
    let options = options.trim_start_matches([' ', '\t']);
    // One that is empty is a mistake, unless nothing follows.
    let options = options.strip_suffix(',').unwrap_or(options);
    if options.is_empty() {
        return None;
    }
    let known = |option: &&str| match option.split_once('=') {
        None => WORDS.contains(option),
        Some(("anonuid" | "anongid", number)) => is_number(number),
        Some(("fsid", value)) => value == "root" || is_number(value) || is_uuid(value),
        Some(("sec", flavors)) => flavors.split(':').all(|flavor| FLAVORS.contains(&flavor)),
        Some((name, _)) => WITH_VALUES.contains(&name),
    };
    let unknown =
        options.split(',').map(|option| option.trim_start_matches([' ', '\t'])).find(|it| !known(it))?;
    Some(format!("its option `{unknown}` is not known"))
}

/// As `strtol` of C reads it: blanks and a sign may be in front.
fn is_number(text: &str) -> bool {
    let digits = text.trim_start();
    let digits = digits.strip_prefix(['-', '+']).unwrap_or(digits);
    match digits.strip_prefix("0x").or(digits.strip_prefix("0X")) {
        Some(hexadecimal) => u64::from_str_radix(hexadecimal, 16).is_ok(),
        None => !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()),
    }
}

/// 32 hexadecimal digits, with what separates them.
fn is_uuid(text: &str) -> bool {
    text.bytes().filter(u8::is_ascii_hexdigit).count() == 32
}

#[cfg(test)]
mod tests {
    use super::mistake;

    #[test]
    fn options_of_the_manual_are_known() {
        for options in [
            "",
            "rw",
            "rw,sync,no_subtree_check",
            "ro,anonuid=150,anongid=-2,fsid=0",
            "fsid=root,crossmnt",
            "fsid=f3a4b0e5-8b9c-4d63-9f0e-0a1b2c3d4e5f",
            "sec=krb5:krb5i:sys,rw",
            "mp=/srv,refer=/b@192.0.2.7,xprtsec=mtls,",
        ] {
            assert_eq!(mistake(options), None, "{options}");
        }
        for (options, unknown) in [
            ("rw,nonsense", "nonsense"),
            ("rw,,ro", ""),
            ("fsid=x", "fsid=x"),
            ("sec=spkm", "sec=spkm"),
            ("ro(rw", "ro(rw"),
        ] {
            let told = mistake(options).unwrap_or_else(|| panic!("{options}"));
            assert!(told.contains(&format!("`{unknown}`")), "{told}");
        }
    }
}
