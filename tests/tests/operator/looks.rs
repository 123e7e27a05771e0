//! What is found by the look that comes although nothing has told of a change.

use serde_json::json;
use vault_tests::operator::{Field, SETTLES, STREAM, VAULT, condition};
use vault_tests::wait::until;

use crate::common::{Containers, append, events, texts};

#[test]
fn containers_are_looked_at_although_nothing_tells_of_them() {
    let field = Field::new().flag("--look-every=2s").start();
    let mut spec = field.vault(&field.prefix());
    spec["replicas"] = json!(1);
    spec["streams"] = json!([{"name": "orders", "settings": {"retentionSeconds": 3600}}]);
    field.apply(VAULT, "events", &spec);
    field.apply(STREAM, "till", &json!({"vaultRef": {"name": "events"}, "settings": {"codec": "zstd"}}));
    let owners = [(VAULT, "events", "orders"), (STREAM, "till", "till")];
    for (kind, name, stream) in owners {
        field.until_ready(kind, name);
        append(&field, "events", stream, "kept");
    }
    let containers = Containers::of(&field, &field.prefix());
    for (_, _, stream) in owners {
        let before = containers.meta(stream).unwrap();
        containers.change(stream, |meta| meta.settings.retention_bytes = Some(1 << 30));
        until(&format!("the settings of {stream} are put back"), SETTLES, || {
            (containers.meta(stream).unwrap() == before).then_some(())
        });
        assert_eq!(texts(&field, "events", stream), ["kept"]);
    }
    // A stream's numbers come by such a look as well.
    until("the status tells of the message", SETTLES, || {
        (field.get(VAULT, "events").unwrap()["status"]["streams"][0]["nextOffset"] == 1).then_some(())
    });
    for (kind, name, stream) in owners {
        containers.delete(stream);
        until(&format!("the loss of {stream} is told of"), SETTLES, || {
            let stalled = condition(&field.get(kind, name).unwrap(), "Stalled");
            (stalled["status"] == "True" && stalled["reason"] == "DataMissing").then_some(())
        });
        assert_eq!(events(&field, name, "DataMissing").len(), 1, "told once");
        assert!(!containers.has(stream), "{stream} must not begin anew by itself");
    }
}
