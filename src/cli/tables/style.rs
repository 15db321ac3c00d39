//! How tables look.

use comfy_table::{CellAlignment, ContentArrangement, LineStyle, Table, TableStyle};

/// Width of tables where there is no terminal to ask.
const WIDTH: u16 = 130;
/// One line under the head, none between rows.
const STYLE: TableStyle = TableStyle::new().header_separator(LineStyle::none().fill('─').junction('─'));

/// A table with this head, as wide as the terminal.
pub(in crate::cli) fn table(head: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(STYLE).set_content_arrangement(ContentArrangement::Dynamic);
    if table.width().is_none() {
        table.set_width(WIDTH);
    }
    table.set_header(head.to_vec());
    table
}

/// Figures stand to the right.
pub(in crate::cli) fn right(table: &mut Table, columns: &[usize]) {
    for column in columns {
        if let Some(column) = table.column_mut(*column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
}
