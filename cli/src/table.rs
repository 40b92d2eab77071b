//! Tables for the terminal: columns as wide as what stands in them. Pure.

use crate::visible::visible_cell;

/// `rows` below `head`, a line each. Control characters are made visible: a row is a line whatever an engine
/// says.
pub(crate) fn table<const N: usize>(head: [&str; N], rows: &[[String; N]]) -> Vec<String> {
    let rows: Vec<[String; N]> = std::iter::once(head.map(str::to_owned))
        .chain(rows.iter().map(|row| row.each_ref().map(|cell| visible_cell(cell))))
        .collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let line = |row: &[String; N]| {
        let cells: Vec<String> =
            row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        cells.join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

/// A span as a person says it: in the largest unit of which there is at least two, rounded down.
pub(crate) fn span(ms: u64) -> String {
    let seconds = ms / 1_000;
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        172_800.. => format!("{} d", seconds / 86_400),
    }
}

/// Bytes as a person says them: in the largest unit of which there is at least one.
pub(crate) fn bytes(count: u64) -> String {
    let units = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
    match units.into_iter().find(|(_, bits)| count >> bits > 0) {
        Some((unit, bits)) => {
            let tenths = (u128::from(count) * 10) >> bits;
            format!("{}.{} {unit}", tenths / 10, tenths % 10)
        }
        None => format!("{count} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_fit_their_content_and_no_control_reaches_the_terminal() {
        let rows = [
            ["web".to_owned(), "ü".to_owned(), "no\x1b[2J\nend".to_owned()],
            ["longer".to_owned(), String::new(), String::new()],
        ];
        assert_eq!(table(["A", "BB", "C"], &rows), ["A       BB  C", "web     ü   no^[[2J end", "longer"]);
    }

    #[test]
    fn spans_are_said_in_one_unit() {
        for (ms, said) in
            [(0, "0 s"), (119_999, "119 s"), (120_000, "2 min"), (7_200_000, "2 h"), (172_800_000, "2 d")]
        {
            assert_eq!(span(ms), said);
        }
    }

    #[test]
    fn bytes_are_said_in_one_unit() {
        for (count, said) in [
            (0, "0 B"),
            (1_023, "1023 B"),
            (1_536, "1.5 KiB"),
            (u64::MAX, "17179869183.9 GiB"),
            (3 << 20, "3.0 MiB"),
        ] {
            assert_eq!(bytes(count), said);
        }
    }
}
