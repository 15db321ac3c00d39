//! `hubprint publish`, `hubprint db pull`, `hubprint db keygen`

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use crate::cli::args::{KeygenArgs, PublishArgs, PullArgs};
use crate::cli::failure::Failure;
use crate::cli::progress::Watch;
use crate::cli::{Done, environment, printer, tables};
use crate::hub::Hub;
use crate::pipeline::Progress;
use crate::publication::address::Address;
use crate::publication::error::PublicationError;
use crate::publication::key::{self, Key, PublicKey};
use crate::publication::offer::PullSettings;
use crate::publication::plan::Published;
use crate::publication::prepare::{self, PublishSettings};
use crate::publication::publish;
use crate::publication::pull::{self, Pulled};
use crate::publication::remote::Remote;
use crate::store::{Database, DatabaseFiles, Location};

pub(in crate::cli) async fn publish(args: PublishArgs) -> Result<Done, Failure> {
    let hub = environment::hub(args.hub.hub.as_deref())?;
    let settings = PublishSettings {
        to: args.to,
        key: args.key,
        title: args.title,
        licence: args.licence,
        keep: args.keep,
        replace: args.replace,
        new_key: args.new_key,
        any_index: args.any_index,
        private: args.private,
    };
    let published = publish_with(&args.db, &hub, &settings, args.yes).await?;
    if args.json {
        printer::json(&published)?;
    } else {
        printer::data(&text_of_published(&published, &settings.to))?;
    }
    Ok(Done::All)
}

/// Fails where publishing could not even begin: who crawls all night wants to know it before.
pub(in crate::cli) fn can_publish(settings: &PublishSettings) -> Result<(), Failure> {
    let to = address(&settings.to)?;
    signing_key(settings.key.as_deref())?;
    if cfg!(not(feature = "hf-hub")) && matches!(to, Address::Dataset(_)) {
        return Err(PublicationError::NoWriter.into());
    }
    Ok(())
}

/// Publishes with a progress bar; without `execute` nothing is written.
pub(in crate::cli) async fn publish_with(
    db: &Location,
    hub: &Hub,
    settings: &PublishSettings,
    execute: bool,
) -> Result<Published, Failure> {
    let to = address(&settings.to)?;
    if matches!(&to, Address::Files(to) if to.is_same(db)) {
        return Err(PublicationError::NotACopy { folder: db.to_string() }.into());
    }
    let db = Database::open(db)?;
    let key = signing_key(settings.key.as_deref())?;
    let progress = Arc::new(Progress::default());
    let _watch = Watch::start("publish", "bytes", &progress);
    Ok(send(&db, &to, hub, &key, settings, execute, &progress).await?)
}

async fn send(
    db: &Database,
    to: &Address,
    hub: &Hub,
    key: &Key,
    settings: &PublishSettings,
    execute: bool,
    progress: &Progress,
) -> Result<Published, PublicationError> {
    let prepared = prepare::prepare(db, key, settings)?;
    let report = |done, all| {
        progress.set_total(all);
        progress.set_done(done);
    };
    match to {
        Address::Files(location) => {
            let to = DatabaseFiles::open(location.clone())?;
            publish::publish_files(db, &prepared, &to, settings, execute, &report)
        }
        Address::Dataset(id) => {
            #[cfg(feature = "hf-hub")]
            let sent = crate::publication::publish_hub::publish_dataset(
                db, &prepared, id, hub, settings, execute, &report,
            )
            .await;
            #[cfg(not(feature = "hf-hub"))]
            let sent = {
                let _ = (id, hub);
                std::future::ready(Err(PublicationError::NoWriter)).await
            };
            sent
        }
    }
}

pub(in crate::cli) async fn pull(args: PullArgs) -> Result<Done, Failure> {
    let from = address(&args.from)?;
    let folder = match args.db.map_or_else(environment::default_database, |db| Ok(Location::Folder(db)))? {
        Location::Folder(folder) => folder,
        elsewhere => {
            return Err(Failure::from(anyhow::anyhow!("{elsewhere}: a database is pulled into a folder"))
                .with_hint("give one with --db"));
        }
    };
    let hub = environment::hub(args.hub.hub.as_deref())?;
    let key = args.key.as_deref().map(|path| {
        let name = path.display().to_string();
        let pem = read(path, &name)?;
        PublicKey::from_pem(&pem, &name).map_err(|e| Failure::from(PublicationError::from(e)))
    });
    let settings = PullSettings {
        version: args.version,
        key: key.transpose()?,
        accept_key: args.accept_key,
        accept_rollback: args.accept_rollback,
        replace: args.replace,
        any_index: args.any_index,
    };
    let progress = Arc::new(Progress::default());
    let pulled = {
        let _watch = Watch::start("pull", "bytes", &progress);
        let remote = Remote::open(&from, &hub).await?;
        let report = |done, all| {
            progress.set_total(all);
            progress.set_done(done);
        };
        pull::pull(&remote, &folder, &settings, &report).await?
    };
    if args.json {
        printer::json(&pulled)?;
    } else {
        printer::data(&text_of_pulled(&pulled, &folder))?;
    }
    Ok(Done::All)
}

pub(in crate::cli) fn keygen(args: &KeygenArgs) -> Result<Done, Failure> {
    let fingerprint = key::write_key(&args.file)?;
    let file = args.file.display();
    printer::data(&format!(
        "{file}: keep it secret\n{file}.pub: give it to those who pull\nkey {fingerprint}"
    ))?;
    Ok(Done::All)
}

fn address(text: &str) -> Result<Address, Failure> {
    Address::parse(text, environment::location).map_err(Failure::usage)
}

fn signing_key(file: Option<&Path>) -> Result<Key, Failure> {
    let (pem, name) = match (file, environment::signing_key()) {
        (Some(file), _) => {
            let name = file.display().to_string();
            (read_secret(file, &name)?, name)
        }
        (None, Some(text)) if text.contains("-----BEGIN") => (text, "HUBPRINT_SIGNING_KEY".to_owned()),
        // It may be a key in another form, so what it says is never repeated.
        (None, Some(file)) => {
            let name = "the file that HUBPRINT_SIGNING_KEY names".to_owned();
            (read_secret(file.as_ref(), &name)?, name)
        }
        (None, None) => {
            return Err(Failure::from(anyhow::anyhow!("a publication is signed, and no key is given"))
                .with_hint(
                    "make one with `hubprint db keygen FILE`, and give it with --key or HUBPRINT_SIGNING_KEY",
                ));
        }
    };
    Key::from_pem(&pem, &name).map_err(|error| PublicationError::from(error).into())
}

fn read(path: &Path, name: &str) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|error| anyhow::Error::from(error).context(name.to_owned()).into())
}

/// Reads a private key; one that others on this machine can read is used, but not without a word.
fn read_secret(path: &Path, name: &str) -> Result<String, Failure> {
    let pem = read(path, name)?;
    if std::fs::metadata(path).is_ok_and(|found| found.permissions().mode() & 0o077 != 0) {
        printer::talk(&format!("warning: {name} can be read by others; chmod 600 it"));
    }
    Ok(pem)
}

pub(in crate::cli) fn text_of_published(published: &Published, to: &str) -> String {
    let Published { version, key, files, files_sent, files_removed, .. } = published;
    let (all, sent) = (tables::bytes(published.bytes), tables::bytes(published.bytes_sent));
    let before = published.before.map_or_else(|| "nothing".to_owned(), |v| format!("version {v}"));
    let rest = format!(
        "{files} files, {all}; {files_sent} of them, {sent}, were not there; {files_removed} old files removed\n\
         signed with key {key}"
    );
    if published.done {
        format!("{to}: version {version} published, before it {before}\n{rest}")
    } else {
        format!(
            "{to}: version {version} would be published, before it {before}\n{}\nnothing was sent; do it with --yes",
            rest.replace("were not there", "are not there").replace("removed", "would be removed")
        )
    }
}

fn text_of_pulled(pulled: &Pulled, folder: &Path) -> String {
    let Pulled { version, key, files, files_fetched, .. } = pulled;
    let (all, fetched) = (tables::bytes(pulled.bytes), tables::bytes(pulled.bytes_fetched));
    let before = match pulled.before {
        Some(before) if before == *version => ", as before".to_owned(),
        Some(before) => format!(", before it {before}"),
        None => String::new(),
    };
    let trust = if pulled.key_is_new { ", trusted from now on: compare it with the publisher's" } else { "" };
    format!(
        "{}: version {version} of {}{before}\n{files} files, {all}, every one checked; {files_fetched} of them, \
         {fetched}, fetched\nsigned with key {key}{trust}",
        folder.display(),
        pulled.published_at.format("%Y-%m-%d %H:%M UTC")
    )
}
