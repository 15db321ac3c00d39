//! `hubprint publish`, `hubprint db pull`, `hubprint db keygen`

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use crate::cli::args::{KeygenArgs, PublishArgs, PullArgs};
use crate::cli::done::Done;
use crate::cli::failure::Failure;
use crate::cli::progress::Watch;
use crate::cli::watching::Watching;
use crate::cli::{environment, printer, tables};
use crate::pipeline::Progress;
use crate::pipeline::run::{Destination, stages};
use crate::publication::address::Address;
use crate::publication::error::PublicationError;
use crate::publication::key::{self, Key, PublicKey};
use crate::publication::offer::PullSettings;
use crate::publication::prepare::PublishSettings;
use crate::publication::pull;
use crate::publication::remote::Remote;
use crate::publication::send::can_send;
use crate::store::Location;

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
    let to = destination(settings)?;
    let published = stages::publish(&args.db, &to, &hub, args.yes, &Watching::quietly()).await?;
    if args.json {
        printer::json(&published)?;
    } else {
        printer::data(&tables::published(&published, &to.settings.to))?;
    }
    Ok(Done::All)
}

/// Where to publish, with the key to sign with. Fails where publishing could not even begin.
pub(in crate::cli) fn destination(settings: PublishSettings) -> Result<Destination, Failure> {
    let address = address(&settings.to)?;
    can_send(&address)?;
    Ok(Destination { address, key: signing_key(settings.key.as_deref())?, settings })
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
        let report = |done, all| progress.set(done, all);
        pull::pull(&remote, &folder, &settings, &report).await?
    };
    if args.json {
        printer::json(&pulled)?;
    } else {
        printer::data(&tables::pulled(&pulled, &folder))?;
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
