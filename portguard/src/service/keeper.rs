//! Keeps interfaces guarded: what the service does about what happens. It blocks, and takes the lock of all guards for
//! each change.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use crate::allowlist::{Allowlist, Origin, Sha256Sum};
use crate::commands::attach::describe;
use crate::commands::reload::replace_list;
use crate::commands::{keep_last_good, load_allowlist, lock, unique};
use crate::error::{Error, Kind, Result};
use crate::guard::{self, Attached, Claim, Guard, Home, Lock, Options};
use crate::interface::{self, Interface};
use crate::output::progress::Filling;
use crate::service::reloads::{Outcome, Reloads};
use crate::{last_good, output};

/// The longest name that an interface can have (`ALTIFNAMSIZ`, with its NUL).
const NAME_LEN: usize = 128;
/// The kernel takes its time to free a link that nobody refers to any more.
const RELEASE_ATTEMPTS: u32 = 50;
const RELEASE_PAUSE: Duration = Duration::from_millis(20);

/// Why the list is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trigger {
    /// Somebody wants it reloaded, whether it has changed or not.
    Asked,
    /// Its file may have changed.
    Changed,
}

/// The interfaces to be guarded, and how.
#[derive(Debug)]
pub(super) struct Keeper {
    home: Home,
    allowlist: PathBuf,
    options: Options,
    posts: Vec<Post>,
    /// The hash of what the file held when it was last found broken; nothing if it could not even be read.
    broken: Option<Option<Sha256Sum>>,
    reloads: Reloads,
    /// Why the last look failed. It is reported once.
    failure: Option<String>,
}

/// An interface to be guarded.
#[derive(Debug)]
struct Post {
    name: String,
    state: State,
}

#[derive(Debug)]
enum State {
    /// There is no such interface.
    Away,
    /// There is, and it has its guard.
    Guarded { ifindex: u32, _claim: Claim },
    /// There is, and it cannot be guarded, for this reason.
    Open(String),
}

/// What there is to guard with.
enum Standing {
    /// What the file holds.
    File(Allowlist),
    /// The file is broken. The copy of what it last held in good order is for interfaces without a guard; where there
    /// is a guard, its list stays.
    Broken(Option<Allowlist>, Kind),
}

impl Keeper {
    /// Changes nothing yet.
    pub(super) fn new(interfaces: &[String], allowlist: PathBuf, options: Options) -> Result<Self> {
        guard::require_privileges()?;
        for name in interfaces {
            require_possible(name)?;
        }
        let posts = unique(interfaces).into_iter().cloned();
        let posts = posts.map(|name| Post { name, state: State::Away }).collect();
        let allowlist = std::path::absolute(&allowlist).unwrap_or(allowlist);
        let home = Home::make(output::error::note)?;
        Ok(Self { home, allowlist, options, posts, broken: None, reloads: Reloads::new(), failure: None })
    }

    /// Where the guards are pinned.
    pub(super) fn home(&self) -> &Home {
        &self.home
    }

    /// The file.
    pub(super) fn allowlist(&self) -> &Path {
        &self.allowlist
    }

    /// The names of the interfaces.
    pub(super) fn interfaces(&self) -> Vec<String> {
        self.posts.iter().map(|post| post.name.clone()).collect()
    }

    /// How reloads went, now and later.
    pub(super) fn reloads(&self) -> &Reloads {
        &self.reloads
    }

    /// Guards every interface that is there; goes on after an error, and returns the first.
    pub(super) fn start(&mut self) -> Result<()> {
        let standing = self.standing();
        let _lock = lock(&self.home)?;
        guard::sweep(&self.home)?;
        let interfaces = interface::all()?;
        let mut first = None;
        for post in &mut self.posts {
            let Some(interface) = interfaces.iter().find(|interface| interface.is_called(&post.name)) else {
                output::error::note(&format!("{}: no such interface yet; waiting for it", post.name));
                continue;
            };
            match guard(&self.home, interface, &standing, self.options, &post.name) {
                Ok(state) => post.state = state,
                Err(error) => {
                    if let Some(earlier) = first.replace(error) {
                        output::error::print(&earlier);
                    }
                }
            }
        }
        match (first, standing) {
            (Some(error), _) => Err(error),
            // Nothing is guarded, and there is nothing to guard with when an interface comes.
            (None, Standing::Broken(None, kind)) if !self.guards_any() => Err(no_list(kind, "nothing to do")),
            (None, Standing::Broken(..)) => Ok(()),
            (None, Standing::File(list)) => {
                if self.guards_any() {
                    keep_last_good(&list);
                }
                Ok(())
            }
        }
    }

    /// Puts what the file holds in force; if it is broken, the lists in force stay.
    pub(super) fn reload(&mut self, trigger: Trigger) {
        let list = match load_allowlist(&self.allowlist) {
            Ok(list) => list,
            Err(error) => {
                self.say_broken(&error, trigger);
                self.reloads.count(Outcome::Failed);
                return;
            }
        };
        if self.broken.take().is_some() {
            output::error::note(&format!("{} is in order again", self.allowlist.display()));
        }
        let outcome = self.put_in_force(&list, trigger).unwrap_or_else(|error| {
            output::error::print(&error);
            Outcome::Failed
        });
        self.reloads.count(outcome);
        // Those that could not be guarded for want of a list can be now.
        self.look();
    }

    fn put_in_force(&mut self, list: &Allowlist, trigger: Trigger) -> Result<Outcome> {
        let _lock = self.lock()?;
        let (mut outcome, mut in_force) = (Outcome::Same, false);
        for post in &self.posts {
            let State::Guarded { .. } = post.state else { continue };
            let told = Guard::by_name(Some(&self.home), &post.name).and_then(|guard| {
                let same = guard.list().is_some_and(|it| {
                    it.sha256 == list.sha256() && it.origin == Origin::File && it.path == list.path()
                });
                if same && trigger == Trigger::Changed {
                    return Ok(None);
                }
                replace_list(&guard, list, false).map(Some)
            });
            match told {
                Ok(None) => in_force = true,
                Ok(Some(told)) => {
                    in_force = true;
                    eprint!("{told}");
                    outcome = outcome.max(Outcome::Done);
                }
                // It has gone meanwhile; a look follows.
                Err(error) if error.kind() == Kind::NotThere => {}
                Err(error) => {
                    output::error::print(&error);
                    outcome = Outcome::Failed;
                }
            }
        }
        if in_force {
            keep_last_good(list);
        }
        Ok(outcome)
    }

    /// Guards what is not guarded: what has come, come back, or lost its guard.
    pub(super) fn look(&mut self) {
        let failure = self.try_look().err();
        let told = failure.as_ref().map(Error::to_string);
        if let Some(error) = failure
            && told != self.failure
        {
            output::error::print(&error);
        }
        self.failure = told;
    }

    /// Waits for the lock of all guards. The directory, or the BPF file system, may have been taken away meanwhile.
    fn lock(&mut self) -> Result<Lock> {
        self.home = Home::make(output::error::note)?;
        lock(&self.home)
    }

    fn try_look(&mut self) -> Result<()> {
        let interfaces = interface::all()?;
        let mut missing = Vec::new();
        for (number, post) in self.posts.iter_mut().enumerate() {
            let interface = interfaces.iter().find(|interface| interface.is_called(&post.name));
            match (interface, &post.state) {
                (None, State::Away) => {}
                (None, State::Guarded { .. } | State::Open(_)) => {
                    output::error::note(&format!(
                        "{}: the interface is gone, or has another name; waiting for it to come back",
                        post.name
                    ));
                    post.state = State::Away;
                }
                (Some(interface), State::Guarded { ifindex, .. })
                    if *ifindex == interface.index && guard::is_on(&self.home, interface)? => {}
                (Some(interface), _) => missing.push((number, interface)),
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        let missing: Vec<(usize, Interface)> = missing
            .into_iter()
            .map(|(number, interface)| (number, self.release(number, interface)))
            .collect();
        let standing = self.standing();
        let locked = self.lock().and_then(|lock| guard::sweep(&self.home).map(|()| lock));
        let _lock = match locked {
            Ok(lock) => lock,
            Err(error) => {
                self.open(missing.iter().map(|(number, _)| *number), &error);
                return Err(error);
            }
        };
        for (number, interface) in &missing {
            let Some(post) = self.posts.get_mut(*number) else { continue };
            post.state = match guard(&self.home, interface, &standing, self.options, &post.name) {
                Ok(state) => state,
                // It has gone again.
                Err(error) if error.kind() == Kind::NotThere => State::Away,
                Err(error) => {
                    // One that cannot be made what it should be is better than none.
                    if let Ok(true) = guard::is_on(&self.home, interface)
                        && let Ok(state) = claimed(&self.home, interface)
                    {
                        output::error::print(&error);
                        output::error::warning(&format!(
                            "{}: the guard that is there stays as it is",
                            post.name
                        ));
                        post.state = state;
                        continue;
                    }
                    let told = error.to_string();
                    if !matches!(&post.state, State::Open(before) if *before == told) {
                        output::error::print(&error);
                        output::error::warning(&format!("{}: NOT GUARDED, port 111 is open", post.name));
                    }
                    State::Open(told)
                }
            };
        }
        if let Standing::File(list) = standing
            && self.guards_any()
        {
            keep_last_good(&list);
        }
        Ok(())
    }

    /// Gives up the claim on a guard that was taken off; returns the interface as it is then. If the BPF file system was
    /// unmounted, the claim is what keeps it, and with it the link that nobody can reach any more.
    fn release(&mut self, number: usize, interface: &Interface) -> Interface {
        let mut interface = interface.clone();
        let Some(post) = self.posts.get_mut(number) else { return interface };
        if !matches!(post.state, State::Guarded { ifindex, .. } if ifindex == interface.index) {
            return interface;
        }
        output::error::warning(&format!("{}: the guard was taken off", post.name));
        post.state = State::Away;
        for _ in 0..RELEASE_ATTEMPTS {
            if interface.xdp.is_empty() {
                break;
            }
            thread::sleep(RELEASE_PAUSE);
            let fresh = interface::all().unwrap_or_default();
            interface = fresh.into_iter().find(|fresh| fresh.index == interface.index).unwrap_or(interface);
        }
        interface
    }

    /// Interfaces have no guard, and cannot have one now.
    fn open(&mut self, numbers: impl IntoIterator<Item = usize>, why: &Error) {
        for number in numbers {
            let Some(post) = self.posts.get_mut(number) else { continue };
            if !matches!(post.state, State::Open(_)) {
                output::error::warning(&format!("{}: NOT GUARDED, port 111 is open", post.name));
            }
            post.state = State::Open(why.to_string());
        }
    }

    /// What there is to guard with now.
    fn standing(&mut self) -> Standing {
        let error = match load_allowlist(&self.allowlist) {
            Ok(list) => {
                self.broken = None;
                return Standing::File(list);
            }
            Err(error) => error,
        };
        self.say_broken(&error, Trigger::Changed);
        self.reloads.found_broken();
        let last_good = last_good::of(&self.allowlist).unwrap_or_else(|unusable| {
            output::error::print(&unusable);
            None
        });
        Standing::Broken(last_good, error.kind())
    }

    /// Tells what is wrong with the file: once, unless somebody asks.
    fn say_broken(&mut self, error: &Error, trigger: Trigger) {
        let found = error.allowlist().and_then(|invalid| invalid.sha256);
        if trigger == Trigger::Asked || self.broken != Some(found) {
            output::error::print(error);
            // At the start, each interface with a list in force is told of by itself.
            if self.guards_any() {
                output::error::warning(&format!(
                    "{} is broken: the lists in force stay",
                    self.allowlist.display()
                ));
            }
        }
        self.broken = Some(found);
    }

    fn guards_any(&self) -> bool {
        self.posts.iter().any(|post| matches!(post.state, State::Guarded { .. }))
    }

    /// One line about all interfaces.
    pub(super) fn summary(&self) -> String {
        let line = |post: &Post| {
            let name = &post.name;
            match &post.state {
                State::Away => format!("{name}: waiting for the interface"),
                State::Open(why) => format!("{name}: NOT GUARDED: {why}"),
                State::Guarded { .. } => match guarded(&self.home, name) {
                    Ok(told) => format!("{name}: {told}"),
                    Err(error) => error.to_string(),
                },
            }
        };
        let mut lines: Vec<String> = self.posts.iter().map(line).collect();
        if self.broken.is_some() {
            lines.push(format!("{} is BROKEN, the lists in force stay", self.allowlist.display()));
        }
        lines.join("; ")
    }

    /// What is reported at the end: which interfaces have their guards now.
    pub(super) fn farewell(&self) -> String {
        let interfaces = match interface::all() {
            Ok(interfaces) => interfaces,
            Err(error) => return format!("stopped; whether the guards are on is not known: {error}"),
        };
        let (mut guarded, mut open) = (0, Vec::new());
        for post in &self.posts {
            let Some(interface) = interfaces.iter().find(|interface| interface.is_called(&post.name)) else {
                continue;
            };
            match guard::is_on(&self.home, interface) {
                Ok(true) => guarded += 1,
                Ok(false) => open.push(post.name.clone()),
                Err(error) => open.push(format!("{} ({error})", post.name)),
            }
        }
        match (guarded, &open[..]) {
            (0, []) => "stopped".to_owned(),
            (_, []) => "stopped; the guards stay on (portguard detach takes them off)".to_owned(),
            (0, open) => format!("stopped; NOT GUARDED, port 111 is open: {}", open.join(", ")),
            (_, open) => format!(
                "stopped; NOT GUARDED, port 111 is open: {}; the other guards stay on (portguard detach takes them off)",
                open.join(", ")
            ),
        }
    }
}

/// Puts a guard on an interface, or takes over the one that is there. The caller holds the lock.
fn guard(
    home: &Home,
    interface: &Interface,
    standing: &Standing,
    options: Options,
    name: &str,
) -> Result<State> {
    let told = |attached: Attached, list| eprintln!("{}", describe(name, attached, options, list));
    match standing {
        Standing::File(list) => told(attach(home, interface, list, options)?, Some(list)),
        Standing::Broken(last_good, kind) => {
            if let Some(attached) = guard::take_over(home, interface, options)? {
                told(attached, None);
                output::error::warning(&format!("{name}: THE ALLOWLIST IS BROKEN; the list in force stays"));
            } else if let Some(list) = last_good {
                told(attach(home, interface, list, options)?, Some(list));
                output::error::warning(&format!(
                    "{name}: THE ALLOWLIST IS BROKEN; guarded with the last list that was in force"
                ));
            } else {
                return Err(no_list(*kind, name));
            }
        }
    }
    claimed(home, interface)
}

/// The guard that is on an interface is ours to keep.
fn claimed(home: &Home, interface: &Interface) -> Result<State> {
    Ok(State::Guarded { ifindex: interface.index, _claim: guard::claim(home, interface.index)? })
}

fn attach(home: &Home, interface: &Interface, list: &Allowlist, options: Options) -> Result<Attached> {
    let mut filling = Filling::of(&interface.name);
    guard::attach(home, interface, list, options, &mut |event| filling.tell(event))
}

fn no_list(kind: Kind, subject: &str) -> Error {
    Error::new(kind, format!("{subject}: there is no list to guard with"))
        .because("the allowlist is broken, and no copy of an earlier one has been kept")
        .remedy("Mend the list: portguard check shows what is wrong with it.")
}

/// How it is with the guard of an interface.
fn guarded(home: &Home, name: &str) -> Result<String> {
    let guard = Guard::by_name(Some(home), name)?;
    let generation = guard.list().map_or(0, |list| list.generation);
    let counters = guard.counters()?;
    let refused = if guard.is_enforcing() {
        format!("{} dropped", counters.dropped().packets)
    } else {
        format!("audit only, {} would be dropped", counters.would_drop.packets)
    };
    Ok(format!("generation {generation}, {} allowed, {refused}", counters.allowed.packets))
}

/// Fails for names that no interface can ever have: to wait for them would be in vain.
fn require_possible(name: &str) -> Result<()> {
    let bytes = interface::name_bytes(name);
    let possible = !bytes.is_empty()
        && bytes.len() < NAME_LEN
        && !matches!(&*bytes, b"." | b"..")
        && !bytes.iter().any(|byte| matches!(byte, 0 | b'/' | b':' | b'\x0b') || byte.is_ascii_whitespace());
    if possible {
        return Ok(());
    }
    Err(Error::new(Kind::NotThere, format!("{name:?}: no interface can have this name")))
}
