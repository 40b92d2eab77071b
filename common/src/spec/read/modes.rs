//! Modes of files, which users write and read in octal. Stores and agents hold numbers. Pure.

use serde_json::{Map, Value};

use super::{super::mounts::octal, Fields};

/// The lists whose entries may have a mode.
const LISTS: [&str; 3] = ["mounts", "secrets", "configs"];

/// The modes in the fields of a spec, each with its path.
fn modes(fields: &mut Map<String, Value>) -> impl Iterator<Item = (String, &mut Value)> {
    let lists = fields.iter_mut().filter(|(field, _)| LISTS.contains(&field.as_str()));
    lists.flat_map(|(field, list)| {
        let entries = list.as_array_mut().into_iter().flatten().enumerate();
        entries.filter_map(move |(nth, entry)| {
            let has_mode = field != "mounts" || entry["type"] == "tmpfs";
            Some((format!("{field}[{nth}].mode"), entry.get_mut("mode").filter(|_| has_mode)?))
        })
    })
}

/// Shows the modes of a spec that holds numbers.
pub(super) fn show(fields: &mut Map<String, Value>) {
    for (_, mode) in modes(fields) {
        if let Some(number) = mode.as_u64() {
            *mode = octal(number).into();
        }
    }
}

/// Refuses numbers: 440 would be octal 0670. What they were to be goes on as no mode.
pub(super) fn refuse_numbers(fields: &mut Fields) {
    let numbers = modes(&mut fields.left).filter(|(_, mode)| mode.is_number());
    let wrong: Vec<_> = numbers.map(|(path, mode)| (path, bare(&mode.take()))).collect();
    for (path, message) in wrong {
        fields.wrong(&path, message);
    }
}

fn bare(number: &Value) -> String {
    let quoted = |mode: u64| (mode <= 0o7777).then(|| format!("{:?}", octal(mode)));
    let as_octal = u64::from_str_radix(&number.to_string(), 8).ok().and_then(quoted);
    let as_decimal = number.as_u64().and_then(quoted);
    let write = match (as_octal, as_decimal) {
        (Some(octal), Some(decimal)) if octal != decimal => {
            format!("write {octal}, or {decimal} if the number is decimal")
        }
        (Some(mode), _) | (None, Some(mode)) => format!("write {mode}"),
        (None, None) => "as in \"0440\"".to_owned(),
    };
    format!("must be octal digits in quotes, but is the number {number}: {write}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_number_is_refused_with_the_modes_that_it_may_mean() {
        let begins = "must be octal digits in quotes, but is the number";
        for (number, write) in [
            (json!(440), "440: write \"0440\", or \"0670\" if the number is decimal"),
            (json!(288), "288: write \"0440\""),
            (json!(0), "0: write \"0000\""),
            (json!(7_777), "7777: write \"7777\""),
            (json!(99_999), "99999: as in \"0440\""),
            (json!(-1), "-1: as in \"0440\""),
        ] {
            assert_eq!(bare(&number), format!("{begins} {write}"));
        }
    }
}
