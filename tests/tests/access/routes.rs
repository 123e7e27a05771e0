//! The table of docs/access.md, cell by cell.

use vault_tests::access::{token, with_token};

use super::{Guarded, ask};

const DOCUMENTATION: &str = include_str!("../../../docs/access.md");

const HEAD: &str = "| request | nobody | another stream's | read | write | admin |";

struct Row {
    method: String,
    path: String,
    /// What nobody, somebody with another stream's grants, and those who may read, write and administer are answered.
    answers: [String; 5],
}

fn rows() -> Vec<Row> {
    let table = DOCUMENTATION.lines().skip_while(|line| *line != HEAD).skip(2);
    let rows = table.take_while(|line| line.starts_with('|')).map(|line| {
        let cells: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
        let (method, path) = cells[0].trim_matches('`').split_once(' ').unwrap();
        let answers = cells[1..].iter().map(|&cell| cell.to_owned()).collect::<Vec<_>>().try_into().unwrap();
        Row { method: method.to_owned(), path: path.to_owned(), answers }
    });
    rows.collect()
}

#[test]
fn every_cell_of_the_table_is_true() {
    let rows = rows();
    assert!(rows.len() >= 14, "the table has {} rows", rows.len());
    let tokens = [
        token("other", &["another:admin"]),
        token("read", &["orders:read"]),
        token("write", &["orders:write"]),
        token("admin", &["orders:admin"]),
    ];
    let guarded = Guarded::start(&format!("tokens:\n{}", tokens.concat()));
    let client = guarded.client();
    let callers =
        [String::new(), with_token("other"), with_token("read"), with_token("write"), with_token("admin")];
    for exists in [true, false] {
        for row in &rows {
            for (caller, wanted) in callers.iter().zip(&row.answers) {
                let admin = &callers[4];
                if exists {
                    assert!(matches!(ask(&client, admin, "PUT", "/streams/orders").status, 200 | 201));
                } else {
                    ask(&client, admin, "DELETE", "/streams/orders");
                }
                let path = row.path.replace("{stream}", "orders");
                let status = ask(&client, caller, &row.method, &path).status;
                let right = match wanted.as_str() {
                    "yes" => !matches!(status, 401 | 403),
                    refusal => status.to_string() == refusal,
                };
                assert!(right, "{} {path} for {caller:?}: {status}, not {wanted} ({exists})", row.method);
            }
        }
    }
}

#[test]
fn the_table_has_every_route_of_the_interface() {
    let interface = include_str!("../../../docs/http-api.md");
    let rows = rows();
    let table = interface.lines().skip_while(|line| *line != "| request | does |").skip(2);
    for line in table.take_while(|line| line.starts_with('|')) {
        let requests = line.split('|').nth(1).unwrap();
        for request in requests.split('`').filter(|request| request.contains(" /")) {
            let (method, path) = request.split_once(' ').unwrap();
            assert!(rows.iter().any(|row| row.method == method && row.path == path), "{request} has no row");
        }
    }
}
