//! What letters look like: templates in the language of Jinja, those that come along or an operator's own.
//!
//! A letter has two, `<language>/<kind>.txt`, whose first line is the subject, and `<language>/<kind>.html`. A file in the operator's
//! folder takes the place of the one that comes along; another folder is another language, in which what is missing is in English.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use minijinja::{Environment, ErrorKind, UndefinedBehavior, Value, context};

use super::letter::KINDS;

/// The language that has everything.
const FALLBACK: &str = "en";

/// The templates that come along.
const EMBEDDED: [(&str, &str); 29] = [
    ("layout.html", include_str!("templates/layout.html")),
    ("en/invitation.html", include_str!("templates/en/invitation.html")),
    ("en/invitation.txt", include_str!("templates/en/invitation.txt")),
    ("en/invitation_accepted.html", include_str!("templates/en/invitation_accepted.html")),
    ("en/invitation_accepted.txt", include_str!("templates/en/invitation_accepted.txt")),
    ("en/role_changed.html", include_str!("templates/en/role_changed.html")),
    ("en/role_changed.txt", include_str!("templates/en/role_changed.txt")),
    ("en/member_removed.html", include_str!("templates/en/member_removed.html")),
    ("en/member_removed.txt", include_str!("templates/en/member_removed.txt")),
    ("en/seats_full.html", include_str!("templates/en/seats_full.html")),
    ("en/seats_full.txt", include_str!("templates/en/seats_full.txt")),
    ("en/trial_ending.html", include_str!("templates/en/trial_ending.html")),
    ("en/trial_ending.txt", include_str!("templates/en/trial_ending.txt")),
    ("en/payment_failed.html", include_str!("templates/en/payment_failed.html")),
    ("en/payment_failed.txt", include_str!("templates/en/payment_failed.txt")),
    ("nl/invitation.html", include_str!("templates/nl/invitation.html")),
    ("nl/invitation.txt", include_str!("templates/nl/invitation.txt")),
    ("nl/invitation_accepted.html", include_str!("templates/nl/invitation_accepted.html")),
    ("nl/invitation_accepted.txt", include_str!("templates/nl/invitation_accepted.txt")),
    ("nl/role_changed.html", include_str!("templates/nl/role_changed.html")),
    ("nl/role_changed.txt", include_str!("templates/nl/role_changed.txt")),
    ("nl/member_removed.html", include_str!("templates/nl/member_removed.html")),
    ("nl/member_removed.txt", include_str!("templates/nl/member_removed.txt")),
    ("nl/seats_full.html", include_str!("templates/nl/seats_full.html")),
    ("nl/seats_full.txt", include_str!("templates/nl/seats_full.txt")),
    ("nl/trial_ending.html", include_str!("templates/nl/trial_ending.html")),
    ("nl/trial_ending.txt", include_str!("templates/nl/trial_ending.txt")),
    ("nl/payment_failed.html", include_str!("templates/nl/payment_failed.html")),
    ("nl/payment_failed.txt", include_str!("templates/nl/payment_failed.txt")),
];

/// A letter as it is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// What it is about, in one line.
    pub subject: String,
    /// Without markup.
    pub text: String,
    /// With markup.
    pub html: String,
}

/// Every template, read and tried.
#[derive(Debug)]
pub struct Templates {
    environment: Environment<'static>,
    languages: BTreeSet<String>,
}

/// What is wrong with templates: each fault names its file.
#[derive(Debug, thiserror::Error)]
#[error("the e-mail templates are not sound:\n  {}", .0.join("\n  "))]
pub struct TemplatesError(Vec<String>);

impl Templates {
    /// Reads the templates that come along and those of a folder, and tries each of them.
    ///
    /// # Errors
    ///
    /// Names every file that cannot be read, is no template of a letter, or cannot be filled in.
    pub fn load(folder: Option<&Path>) -> Result<Self, TemplatesError> {
        let mut environment = Environment::new();
        // A variable that is misspelt is a fault at start, and not a gap in a letter.
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        let mut faults = Vec::new();
        let mut languages = BTreeSet::new();
        for (name, source) in EMBEDDED {
            languages.extend(name.split_once('/').map(|(language, _)| language.to_owned()));
            faults.extend(environment.add_template(name, source).err().map(|error| told(name, &error)));
        }
        for (name, path) in folder.map(|folder| files(folder, &mut faults)).unwrap_or_default() {
            let is_letter = |file: &str| EMBEDDED.iter().any(|(embedded, _)| file_of(embedded) == Some(file));
            let known = name == "layout.html" || file_of(&name).is_some_and(is_letter);
            if !known {
                faults.push(format!("{}: there is no letter of this name", path.display()));
                continue;
            }
            languages.extend(name.split_once('/').map(|(language, _)| language.to_owned()));
            match std::fs::read_to_string(&path) {
                Ok(source) => {
                    let added = environment.add_template_owned(name, source);
                    faults.extend(added.err().map(|error| told(&path.display().to_string(), &error)));
                }
                Err(error) => faults.push(format!("{}: {error}", path.display())),
            }
        }
        let templates = Self { environment, languages };
        if faults.is_empty() {
            for language in &templates.languages {
                for (kind, sample) in samples() {
                    faults.extend(templates.write(language, kind, &sample).err());
                }
            }
        }
        if faults.is_empty() { Ok(templates) } else { Err(TemplatesError(faults)) }
    }

    /// The language in which there are letters that is nearest to one: itself, or without its region.
    #[must_use]
    pub fn nearest(&self, tag: &str) -> Option<&str> {
        let main = tag.split('-').next().unwrap_or_default();
        let is = |wanted: &str| self.languages.iter().find(|known| known.eq_ignore_ascii_case(wanted));
        is(tag).or_else(|| is(main)).map(String::as_str)
    }

    /// Whether there are letters in a language.
    #[must_use]
    pub fn has(&self, language: &str) -> bool {
        self.languages.contains(language)
    }

    /// The languages, as one reads them.
    #[must_use]
    pub fn languages(&self) -> String {
        self.languages.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
    }

    /// Writes a letter.
    ///
    /// # Errors
    ///
    /// Which template could not be filled in, and why.
    pub fn write(&self, language: &str, kind: &str, facts: &Value) -> Result<Written, String> {
        let text = self.fill(language, kind, "txt", facts)?;
        let html = self.fill(language, kind, "html", facts)?;
        let (first, rest) = text.split_once('\n').unwrap_or((&text, ""));
        let subject = first
            .strip_prefix("Subject:")
            .ok_or_else(|| format!("{language}/{kind}.txt: must begin with a line \"Subject: …\""))?;
        // A name could bring a line of its own along.
        let subject = subject.split_whitespace().collect::<Vec<_>>().join(" ");
        Ok(Written { subject, text: rest.trim().to_owned() + "\n", html })
    }

    fn fill(&self, language: &str, kind: &str, suffix: &str, facts: &Value) -> Result<String, String> {
        let name = format!("{language}/{kind}.{suffix}");
        let template = match self.environment.get_template(&name) {
            Err(error) if error.kind() == ErrorKind::TemplateNotFound => {
                self.environment.get_template(&format!("{FALLBACK}/{kind}.{suffix}"))
            }
            found => found,
        };
        template.and_then(|template| template.render(facts)).map_err(|error| told(&name, &error))
    }
}

/// What is wrong with a template, and where.
fn told(name: &str, error: &minijinja::Error) -> String {
    match error.line() {
        Some(line) => format!("{name}:{line}: {error}"),
        None => format!("{name}: {error}"),
    }
}

/// The name of a template without its language.
fn file_of(name: &str) -> Option<&str> {
    name.split_once('/').map(|(_, file)| file)
}

/// The files of a folder and of the folders in it, by their names as templates.
fn files(folder: &Path, faults: &mut Vec<String>) -> Vec<(String, PathBuf)> {
    let mut found = Vec::new();
    let mut entries = |folder: &Path| match std::fs::read_dir(folder) {
        Ok(entries) => entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect(),
        Err(error) => {
            faults.push(format!("{}: {error}", folder.display()));
            Vec::new()
        }
    };
    let name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    for path in entries(folder) {
        if path.is_dir() {
            found.extend(entries(&path).into_iter().map(|file| (format!("{}/{}", name(&path), name(&file)), file)));
        } else {
            found.push((name(&path), path));
        }
    }
    // What an editor left behind is no template.
    found.retain(|(name, _)| Path::new(name).extension().is_some_and(|suffix| suffix == "txt" || suffix == "html"));
    found.sort();
    found
}

/// Facts by which every template is tried: everything that a letter of each kind can say, and nothing that it may leave out.
fn samples() -> impl Iterator<Item = (&'static str, Value)> {
    KINDS.into_iter().flat_map(|kind| {
        ["", "Acme"].into_iter().map(move |said| {
            let yes = !said.is_empty();
            let sample = context! {
                language => FALLBACK, product => "Tenantry", recipient => said,
                organization => context! { name => "Acme", logo_uri => said, primary_color => said, accent_color => said },
                inviter => said, role => "Admin", url => "https://example.com/", expires => "2026-11-29 14:00 UTC", resent => yes,
                member => "ann@example.com", before => "Admin", after => "Member", by => said, seats => 5,
                plan => "Team", ends => "2026-11-29 14:00 UTC", charged => yes,
                invoice_number => "00000000-000001", due => "12.34 EUR", failure => said, grace_end => said,
            };
            (kind, sample)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_letter_there_is_can_be_written_in_every_language_that_comes_along() {
        let templates = Templates::load(None).unwrap();
        assert_eq!(templates.languages(), "en, nl");
        for (kind, sample) in samples() {
            for language in ["en", "nl"] {
                let written = templates.write(language, kind, &sample).unwrap();
                assert!(!written.subject.is_empty() && written.text.len() > 40, "{language}/{kind}");
                assert!(
                    written.html.starts_with("<!") && written.html.contains(&format!("lang=\"{FALLBACK}\"")),
                    "{kind}"
                );
            }
        }
    }

    #[test]
    fn what_a_person_is_called_is_text_and_no_markup_and_no_header() {
        let templates = Templates::load(None).unwrap();
        let (_, sample) = samples().find(|(kind, _)| *kind == "role_changed").unwrap();
        let name = "<b>Acme</b>\r\nBcc: eve@example.com";
        let facts = context! { organization => context! { name, logo_uri => "", primary_color => "", accent_color => "" }, ..sample };
        let written = templates.write("en", "role_changed", &facts).unwrap();
        assert!(!written.html.contains("<b>Acme") && written.html.contains("&lt;b&gt;Acme"));
        assert!(!written.subject.contains(['\r', '\n']), "{}", written.subject);
    }

    #[test]
    fn an_operators_template_takes_the_place_of_the_one_that_comes_along_and_may_be_in_another_language() {
        let folder = tempfile::TempDir::new().unwrap();
        std::fs::create_dir_all(folder.path().join("de")).unwrap();
        std::fs::create_dir_all(folder.path().join("en")).unwrap();
        std::fs::write(folder.path().join("de/seats_full.txt"), "Subject: Alle {{ seats }} belegt\n\nVoll.\n").unwrap();
        std::fs::write(folder.path().join("en/seats_full.txt~"), "{{").unwrap();
        let templates = Templates::load(Some(folder.path())).unwrap();
        let (_, sample) = samples().find(|(kind, _)| *kind == "seats_full").unwrap();
        let written = templates.write("de", "seats_full", &sample).unwrap();
        assert_eq!((written.subject.as_str(), written.text.as_str()), ("Alle 5 belegt", "Voll.\n"));
        // What it lacks is in English.
        assert_eq!(written.html, templates.write("en", "seats_full", &sample).unwrap().html);
        assert!(templates.has("de") && !templates.has("fr"));
        let nearest = |tag: &str| templates.nearest(tag);
        assert_eq!([nearest("de-AT"), nearest("NL"), nearest("fr"), nearest("")], [Some("de"), Some("nl"), None, None]);
    }

    #[test]
    fn every_fault_of_an_operators_templates_is_named_with_its_file_at_start() {
        let folder = tempfile::TempDir::new().unwrap();
        std::fs::create_dir_all(folder.path().join("en")).unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        write("en/seats_full.txt", "Subject: {{ seats");
        write("en/welcome.html", "There is no such letter.");
        write("seats_full.html", "In no language.");
        let refused = Templates::load(Some(folder.path())).unwrap_err().to_string();
        assert!(
            refused.contains("seats_full.txt:1") && refused.contains("welcome.html: there is no letter"),
            "{refused}"
        );
        write("en/seats_full.txt", "Subject: {{ seets }}");
        write("en/role_changed.txt", "Your role changed.");
        assert!(refused.contains("/seats_full.html: there is no letter"), "{refused}");
        std::fs::remove_file(folder.path().join("en/welcome.html")).unwrap();
        std::fs::remove_file(folder.path().join("seats_full.html")).unwrap();
        let refused = Templates::load(Some(folder.path())).unwrap_err().to_string();
        assert!(refused.contains("en/seats_full.txt:1") && refused.contains("must begin with a line"), "{refused}");
        assert!(Templates::load(Some(&folder.path().join("nowhere"))).is_err());
    }
}
