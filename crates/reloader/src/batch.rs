//! Manifests of Jobs: one that a CronJob runs now, and one that takes the place of a Job. Pure.
//!
//! They are made from the objects as they are, not from typed ones: a field this program does not know survives.

use serde_json::{Map, Value, json};

use crate::stakater::Sha1;

/// A CronJob's name may have 52 characters, so that its Jobs' names have room for a suffix.
const STEM: usize = 52;
const SUFFIX: usize = 10;
/// Set by the Job controller; a new Job gets its own.
const CONTROLLER_LABELS: [&str; 4] = [
    "controller-uid",
    "job-name",
    "batch.kubernetes.io/controller-uid",
    "batch.kubernetes.io/job-name",
];

/// The name of the Job of one trigger: the same trigger never runs twice, whatever happens in between.
pub fn job_name(cron_job: &str, uid: &str, trigger: u64, state: &str) -> String {
    let hash = Sha1::of(format!("{uid}/{trigger}/{state}").as_bytes()).to_string();
    let stem = cron_job.get(..cron_job.len().min(STEM)).unwrap_or(cron_job);
    format!("{stem}-{}", hash.get(..SUFFIX).unwrap_or_default())
}

/// A Job that runs a CronJob's template now, as `kubectl create job --from` makes it.
pub fn run_now(cron_job: &Value, name: &str) -> Value {
    let template = &cron_job["spec"]["jobTemplate"];
    let mut annotations = template["metadata"]["annotations"]
        .as_object()
        .cloned()
        .unwrap_or_default();
    annotations.insert("cronjob.kubernetes.io/instantiate".into(), "manual".into());
    json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": name,
            "namespace": cron_job["metadata"]["namespace"],
            "labels": template["metadata"]["labels"],
            "annotations": annotations,
            "ownerReferences": [{
                "apiVersion": "batch/v1",
                "kind": "CronJob",
                "name": cron_job["metadata"]["name"],
                "uid": cron_job["metadata"]["uid"],
                "controller": true,
            }],
        },
        "spec": template["spec"],
    })
}

/// A Job that takes the place of another: what the server and the Job controller have added is left out.
pub fn anew(job: &Value, annotations: &Map<String, Value>) -> Value {
    let meta = &job["metadata"];
    let mut all = meta["annotations"].as_object().cloned().unwrap_or_default();
    all.remove("batch.kubernetes.io/job-tracking");
    all.extend(annotations.clone());
    let mut spec = job["spec"].clone();
    if spec["manualSelector"] != Value::Bool(true) {
        if let Some(spec) = spec.as_object_mut() {
            spec.remove("selector");
        }
        if let Some(labels) = spec
            .pointer_mut("/template/metadata/labels")
            .and_then(Value::as_object_mut)
        {
            labels.retain(|label, _| !CONTROLLER_LABELS.contains(&label.as_str()));
        }
    }
    let mut labels = meta["labels"].as_object().cloned().unwrap_or_default();
    labels.retain(|label, _| !CONTROLLER_LABELS.contains(&label.as_str()));
    json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": meta["name"],
            "namespace": meta["namespace"],
            "labels": labels,
            "annotations": all,
            "ownerReferences": meta["ownerReferences"],
        },
        "spec": spec,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_job_is_that_of_its_trigger() {
        let name = job_name("nightly", "u1", 1, "state");
        assert_eq!(name.len(), "nightly-".len() + SUFFIX);
        assert_eq!(name, job_name("nightly", "u1", 1, "state"));
        for other in [
            job_name("nightly", "u1", 2, "state"),
            job_name("nightly", "u2", 1, "state"),
        ] {
            assert_ne!(name, other);
        }
        assert!(job_name(&"x".repeat(253), "u", 1, "s").len() <= 63);
    }

    #[test]
    fn a_cron_job_is_run_with_its_template() {
        let cron_job = json!({
            "metadata": {"name": "nightly", "namespace": "shop", "uid": "u1"},
            "spec": {"jobTemplate": {
                "metadata": {"labels": {"a": "b"}, "annotations": {"c": "d"}},
                "spec": {"fieldOfTheFuture": 1, "template": {}}}},
        });
        let job = run_now(&cron_job, "nightly-1");
        assert_eq!(
            job["metadata"]["annotations"]["cronjob.kubernetes.io/instantiate"],
            "manual"
        );
        assert_eq!(job["metadata"]["annotations"]["c"], "d");
        assert_eq!(job["metadata"]["ownerReferences"][0]["uid"], "u1");
        assert_eq!(job["spec"]["fieldOfTheFuture"], 1);
    }

    #[test]
    fn a_job_is_made_anew_without_what_was_added_to_it() {
        let job = json!({
            "metadata": {"name": "import", "namespace": "shop", "uid": "u1", "resourceVersion": "7",
                "labels": {"a": "b", "controller-uid": "u1", "batch.kubernetes.io/job-name": "import"},
                "annotations": {"x": "y"}},
            "spec": {"selector": {"matchLabels": {"controller-uid": "u1"}}, "fieldOfTheFuture": 1,
                "template": {"metadata": {"labels": {"app": "i", "job-name": "import"}}}},
            "status": {"succeeded": 1},
        });
        let annotations = Map::from_iter([("state".to_owned(), json!("v1"))]);
        let new = anew(&job, &annotations);
        assert_eq!(new["metadata"]["labels"], json!({"a": "b"}));
        assert_eq!(new["metadata"]["annotations"], json!({"x": "y", "state": "v1"}));
        assert_eq!(
            new["spec"],
            json!({"fieldOfTheFuture": 1, "template": {"metadata": {"labels": {"app": "i"}}}})
        );
        assert!(new["metadata"]["uid"].is_null() && new["status"].is_null());
        let mut manual = job;
        manual["spec"]["manualSelector"] = json!(true);
        assert!(anew(&manual, &annotations)["spec"]["selector"].is_object());
    }
}
