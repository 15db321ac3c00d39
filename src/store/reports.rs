//! Run reports beside the data.

use super::database::Database;
use super::error::StoreError;
use super::layout::REPORTS;

impl Database {
    /// Keeps a run report beside the data; returns its name.
    pub fn keep_report(&self, name: &str, text: &[u8]) -> Result<String, StoreError> {
        let file = format!("{REPORTS}/{name}");
        self.files().put(&file, text)?;
        Ok(file)
    }

    /// The run reports of crawls, as they were written, the latest first. What is not JSON is left out.
    pub fn reports(&self) -> Result<Vec<serde_json::Value>, StoreError> {
        let read = |file: &String| serde_json::from_slice(&self.files().get(file).ok()??).ok();
        Ok(self.report_names()?.iter().filter_map(read).collect())
    }

    /// The files of the same.
    pub(super) fn report_names(&self) -> Result<Vec<String>, StoreError> {
        let mut files: Vec<String> = self.files().list(REPORTS)?.into_iter().map(|p| p.file).collect();
        files.retain(|file| {
            let name = file.rsplit('/').next().unwrap_or_default();
            name.starts_with("crawl-") && name.ends_with(".json")
        });
        // Names begin with the time.
        files.sort_unstable_by(|a, b| b.cmp(a));
        Ok(files)
    }
}
