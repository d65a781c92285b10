//! Requests and replies.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use portguard::control::client::{self, Timing};
use portguard::control::server::{Incoming, MOST_WAITING, Task};
use portguard::control::{Confirm, Outcome, Reload};
use serde_json::{Value, json};

use super::harness::{BUSY, NAMESPACE, RawClient, Running, description, only, outcome, patient, temporary};

#[test]
fn a_description_arrives_as_it_was_given() {
    let (_folder, directory) = temporary();
    let mut given = description(11, &[("eth0", Some(2)), ("eth1", None)]);
    given.namespace = u64::MAX;
    let service = Running::start(&directory, given.clone(), |_| {});
    assert_eq!(only(&directory).description(), &given);

    given.order.allowlist = OsString::from_vec(b"/etc/b\xfcro \\ \"list\"\n.yaml".to_vec()).into();
    given.unit = None;
    given.interfaces.clear();
    service.describe(given.clone());
    assert_eq!(only(&directory).description(), &given);
}

#[test]
fn a_task_and_its_outcome_arrive_as_they_were_given() {
    let (_folder, directory) = temporary();
    let (tasks, done) = mpsc::channel();
    let _service = Running::start(&directory, description(11, &[]), move |Incoming { task, reply }| {
        let code = if matches!(task, Task::Reload(_)) { 3 } else { 0 };
        tasks.send(task).expect("the test waits");
        reply.send(outcome(code));
    });
    let service = only(&directory);
    let reload = Reload { interfaces: vec!["eth0".to_owned()], allow_empty: true, confirm_seconds: Some(90) };
    assert_eq!(service.reload(reload.clone()).expect("an outcome"), outcome(3));
    assert_eq!(done.recv().expect("a task"), Task::Reload(reload));
    let confirm = Confirm { interfaces: vec!["eth0".to_owned(), "eth1".to_owned()] };
    assert_eq!(service.confirm(confirm.clone()).expect("an outcome"), outcome(0));
    assert_eq!(done.recv().expect("a task"), Task::Confirm(confirm));
}

/// Another version of portguard must be understood, so the form of the lines is fixed.
#[test]
fn the_form_of_the_lines_is_fixed_and_unknown_fields_are_ignored() {
    let (_folder, directory) = temporary();
    let service = Running::start(&directory, description(11, &[("eth0", Some(2))]), |incoming| {
        assert_eq!(incoming.task, Task::Reload(Reload::default()));
        incoming.reply.send(outcome(0));
    });
    let ask = |line: &str| -> Value {
        let mut client = RawClient::connect(&service);
        client.send(line.as_bytes());
        serde_json::from_str(&client.receive()).expect("JSON")
    };
    assert_eq!(
        ask("{\"later\":[1],\"protocol\":1,\"request\":\"describe\"}\n"),
        json!({
            "protocol": 1, "reply": "description", "pid": 11, "unit": "portguard@eth0.service", "namespace": NAMESPACE,
            "version": "0.1.0",
            "order": {"allowlist": "/etc/portguard/allowlist.yaml", "hook": "xdp", "mode": "auto", "audit": true, "sources": 16384,
                "log_rate": null},
            "interfaces": [{"name": "eth0", "ifindex": 2, "state": "guarded", "open": false, "why": null}],
        })
    );
    assert_eq!(
        ask("{\"protocol\":1,\"request\":\"reload\",\"later\":{}}\n"),
        json!({
            "protocol": 1, "reply": "outcome", "stdout": "eth0: +1 -0, 14 unchanged, generation 5 -> 6\n",
            "messages": [{"severity": "warning", "text": "the list is odd",
                "list_problems": "allowlist.yaml:3:5: odd\n"}],
            "code": 0,
        })
    );
    let refused = ask("{\"protocol\":2,\"request\":\"describe\"}\n");
    assert_eq!(refused["reply"], "refused");
    assert_eq!(refused["text"], "this portguard uses protocol 1, and the other side protocol 2");
}

#[test]
fn a_client_waits_for_a_busy_service_beyond_its_time_outs() {
    let (_folder, directory) = temporary();
    let takes = Duration::from_secs(6);
    let _service = Running::start(&directory, description(11, &[]), move |incoming| {
        tokio::spawn(async move {
            tokio::time::sleep(takes).await;
            incoming.reply.send(outcome(0));
        });
    });
    let timing = Timing { silence: Duration::from_secs(3), ..patient() };
    let find = |timing| {
        let found = client::services_in(std::slice::from_ref(&directory), timing).expect("a directory");
        found.into_iter().next().expect("a service").expect("an answer")
    };
    let start = Instant::now();
    assert_eq!(find(timing).reload(Reload::default()).expect("an outcome"), outcome(0));
    assert!(start.elapsed() >= takes);

    // But not for ever.
    let start = Instant::now();
    let error =
        find(Timing { whole: Duration::from_secs(4), ..timing }).reload(Reload::default()).unwrap_err();
    assert!(error.to_string().contains("11.sock does not reply"), "{error}");
    assert!(start.elapsed() < takes, "it gives up before the reply");
}

#[test]
fn descriptions_are_given_while_a_reload_is_in_progress() {
    let (_folder, directory) = temporary();
    let (started, is_started) = mpsc::channel();
    let service = Running::start(&directory, description(11, &[]), move |incoming| {
        started.send(incoming.reply).expect("the test waits");
    });
    let found = only(&directory);
    let reload = thread::spawn(move || found.reload(Reload::default()));
    let reply = is_started.recv().expect("a reload");
    for pid in 20..25 {
        let described = description(pid, &[]);
        service.describe(described.clone());
        assert_eq!(only(&directory).description(), &described);
    }
    assert!(!reload.is_finished() && reply.is_awaited());
    reply.send(outcome(0));
    assert_eq!(reload.join().expect("no panic").expect("an outcome"), outcome(0));
}

#[test]
fn a_service_that_takes_no_requests_still_describes_itself() {
    let (_folder, directory) = temporary();
    let (tasks, taken) = mpsc::channel();
    let service = Running::start(&directory, description(11, &[]), move |Incoming { task, reply }| {
        tasks.send(task).expect("the test waits");
        reply.send(outcome(0));
    });
    service.take_requests(false);
    let ask = |name: &str| {
        let mut client = RawClient::connect(&service);
        let line = json!({"protocol": 1, "request": "confirm", "interfaces": [name]}).to_string();
        client.send(format!("{line}\n").as_bytes());
        client
    };
    let names: Vec<String> = (0..MOST_WAITING).map(|number| format!("eth{number}")).collect();
    let mut clients: Vec<RawClient> = names.iter().map(|name| ask(name)).collect();
    for client in &mut clients {
        assert_eq!(client.line(), BUSY);
    }
    let refused = ask("one more").receive();
    assert!(refused.contains("\"refused\"") && refused.contains("other requests wait already"), "{refused}");
    assert_eq!(only(&directory).description().pid, 11);

    // What a client does not wait for any more is not done; the rest is, in its order.
    clients.remove(1).leave();
    service.take_requests(true);
    for client in &mut clients {
        assert!(client.receive().contains("\"outcome\""));
    }
    let done: Vec<Task> = taken.try_iter().collect();
    let expected = names.iter().filter(|name| *name != "eth1");
    let expected = expected.map(|name| Task::Confirm(Confirm { interfaces: vec![name.clone()] }));
    assert_eq!(done, expected.collect::<Vec<_>>());
}

#[test]
fn a_service_sees_that_a_client_has_left() {
    let (_folder, directory) = temporary();
    let (tasks, taken) = mpsc::channel();
    let service = Running::start(&directory, description(11, &[]), move |Incoming { task: _, reply }| {
        tasks.send(reply).expect("the test waits");
    });
    let mut client = RawClient::connect(&service);
    client.send(b"{\"protocol\":1,\"request\":\"reload\"}\n");
    let reply = taken.recv().expect("a request");
    assert!(reply.is_awaited());
    client.leave();
    assert!(!reply.is_awaited());
    reply.send(outcome(0));
    assert_eq!(only(&directory).description().pid, 11);
}

#[test]
fn a_client_learns_that_the_service_has_ended_or_has_no_result() {
    let (_folder, directory) = temporary();
    let (tasks, taken) = mpsc::channel();
    let service = Running::start(&directory, description(11, &[]), move |incoming| {
        tasks.send(incoming).expect("the test waits");
    });
    let reload = || {
        let found = only(&directory);
        thread::spawn(move || found.reload(Reload::default()).expect_err("no outcome").to_string())
    };
    // One without a result,
    let client = reload();
    drop(taken.recv().expect("a request"));
    let error = client.join().expect("no panic");
    assert!(
        error.contains("11.sock refuses the request: ") && error.contains("before the result"),
        "{error}"
    );
    // one that the service works on, and one that waits.
    let working = reload();
    let incoming = taken.recv().expect("a request");
    service.take_requests(false);
    let waiting = reload();
    let mut last = RawClient::connect(&service);
    last.send(b"{\"protocol\":1,\"request\":\"reload\"}\n");
    assert_eq!(last.line(), BUSY);
    service.stop();
    for client in [working, waiting] {
        let error = client.join().expect("no panic");
        assert!(error.contains("11.sock ended before it replied"), "{error}");
    }
    assert_eq!(last.receive(), "");
    drop(incoming);
}

#[test]
fn an_outcome_that_is_too_long_still_has_its_exit_code() {
    let (_folder, directory) = temporary();
    let _service = Running::start(&directory, description(11, &[]), |incoming| {
        incoming.reply.send(Outcome { stdout: "x".repeat(2 << 20), messages: Vec::new(), code: 3 });
    });
    let received = only(&directory).reload(Reload::default()).expect("an outcome");
    assert_eq!((received.code, received.stdout.as_str()), (3, ""));
    assert!(received.messages[0].text.contains("too long"), "{received:?}");

    let long = Outcome { stdout: "x".repeat(1_000_000), messages: Vec::new(), code: 0 };
    let sent = long.clone();
    let (_folder, directory) = temporary();
    let _service = Running::start(&directory, description(11, &[]), move |incoming| {
        incoming.reply.send(sent.clone());
    });
    assert_eq!(only(&directory).reload(Reload::default()).expect("an outcome"), long);
}
