//! Lists that users see. Each stands once, as an enum that counters, JSON, metrics, text and help iterate over.

/// An enum whose variants stand once, each with the key that users see: `ALL` has them in order, and counts them.
///
/// What stands above the enum is kept, such as more traits to derive. With serde, `#[serde(into = "&'static str")]` writes
/// the key.
#[macro_export]
macro_rules! listed {
    ($(#[$about:meta])* pub enum $name:ident { $($(#[$doc:meta])* $variant:ident = $key:literal,)+ }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$doc])* $variant,)+ }

        impl $name {
            /// All of them, in order: each at its own number.
            pub const ALL: [Self; [$($key),+].len()] = [$(Self::$variant),+];

            /// What it is called in JSON and metrics. None is renamed.
            pub const fn key(self) -> &'static str {
                match self { $(Self::$variant => $key,)+ }
            }

            /// The one with this key.
            pub fn from_key(key: &str) -> Option<Self> {
                Self::ALL.into_iter().find(|it| it.key() == key)
            }
        }

        impl From<$name> for &'static str {
            fn from(it: $name) -> Self {
                it.key()
            }
        }
    };
}

#[cfg(test)]
mod tests {
    use crate::reason::Fault;
    use crate::rpc::Procedure;
    use crate::transport::Protocol;

    listed! {
        /// An example.
        #[derive(PartialOrd, Ord)]
        pub enum Example {
            /// The first.
            First = "first",
            /// The last.
            Last = "the_last",
        }
    }

    #[test]
    fn a_variant_has_its_number_and_its_key() {
        assert_eq!(Example::ALL, [Example::First, Example::Last]);
        assert_eq!(Example::ALL.map(Example::key), ["first", "the_last"]);
        assert_eq!(Example::from_key("the_last"), Some(Example::Last));
        assert_eq!(Example::from_key("Last"), None);
        assert_eq!(<&str>::from(Example::First), "first");
        assert!(Example::First < Example::Last);
    }

    /// Others index arrays by these numbers.
    #[test]
    fn each_stands_at_its_number() {
        assert!((0..).zip(Fault::ALL).all(|(number, it)| it as usize == number));
        assert!((0..).zip(Procedure::ALL).all(|(number, it)| it as usize == number));
        assert!((0..).zip(Protocol::ALL).all(|(number, it)| it as usize == number));
    }

    /// Documents, metrics and the history have these. None is renamed.
    #[test]
    fn keys_stay() {
        let faults = Fault::ALL.map(Fault::key);
        assert!(faults.starts_with(&["truncated", "malformed", "too_many_headers"]), "{faults:?}");
        assert_eq!(
            Procedure::ALL.map(Procedure::key),
            [
                "null",
                "getaddr",
                "dump",
                "callit",
                "getstat",
                "set",
                "other_rpc",
                "not_rpc",
                "getaddrlist",
                "gettime",
                "uaddr2taddr",
                "taddr2uaddr",
                "getversaddr",
                "other_program",
            ]
        );
        assert_eq!(Protocol::ALL.map(Protocol::key), ["udp", "tcp"]);
    }
}
