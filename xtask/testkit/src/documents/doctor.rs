//! `doctor --json`.

use serde::Deserialize;

use crate::portguard::Output;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Document {
    schema: u32,
    status: String,
    pub findings: Vec<Finding>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Finding {
    pub id: String,
    pub subject: Option<String>,
    pub status: String,
    pub found: String,
    pub remedy: Option<String>,
    pub remedy_kind: Option<String>,
}

impl Document {
    /// What was printed; the exit code must fit it, and so must the worst status.
    #[track_caller]
    pub fn of(output: &Output) -> Self {
        assert_eq!(output.stderr, "", "{output:?}");
        let document: Self =
            serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
        assert_eq!(document.schema, 1);
        let has = |status: &str| document.findings.iter().any(|finding| finding.status == status);
        let worst = ["failure", "warning", "ok"].into_iter().find(|status| has(status)).expect("findings");
        assert_eq!(document.status, worst);
        assert_eq!(output.code, i32::from(worst == "failure"), "{output:?}");
        for finding in &document.findings {
            assert_eq!(
                finding.remedy.is_none(),
                finding.status == "ok",
                "a remedy for each evil: {finding:?}"
            );
            assert_eq!(finding.remedy.is_some(), finding.remedy_kind.is_some(), "{finding:?}");
        }
        document
    }

    /// What is not well.
    pub fn problems(&self) -> Vec<Finding> {
        self.findings.iter().filter(|finding| finding.status != "ok").cloned().collect()
    }

    /// What a check has found, of an interface or service if several were looked at.
    #[track_caller]
    pub fn finding(&self, id: &str, subject: Option<&str>) -> &Finding {
        let is = |finding: &&Finding| finding.id == id && finding.subject.as_deref() == subject;
        self.findings.iter().find(is).unwrap_or_else(|| panic!("no {id} of {subject:?}: {self:?}"))
    }
}
