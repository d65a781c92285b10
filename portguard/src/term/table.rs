//! Tables for the eye: columns and blanks, no lines.

use comfy_table::Table;
use comfy_table::presets::NOTHING;

/// A table with these headings.
pub fn new<'h>(header: impl IntoIterator<Item = &'h str>) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(header);
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table
}

/// Its lines, behind two blanks each.
pub fn indented(table: &Table) -> String {
    table.lines().map(|line| format!("  {}\n", line.trim_end())).collect()
}
