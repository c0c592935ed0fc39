//! E-mail: who is told of what, once it is committed; and that it is sent, sooner or later.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use chrono::TimeDelta;
use tempfile::TempDir;
use tenantry::config::MailSettings;
use tenantry::delivery::mail::queue::MOST_ATTEMPTS;
use tenantry::pb::{self, CancellationMode, MailState, PaymentState};
use tonic::Code;

use crate::harness::billing::{billed, plan};
use crate::harness::mail::{Letter, into_folder, letters, settings};
use crate::harness::person::Person;
use crate::harness::smtp::{SmtpServer, Speaks};
use crate::harness::world::{Setup, World, plans_with_seats, roomy};
use crate::harness::{Backend, database_tests};

/// To whom letters went and what they are about, the earliest first.
fn told(letters: &[Letter]) -> Vec<(&str, &str)> {
    letters.iter().map(|letter| (letter.to.as_str(), letter.subject.as_str())).collect()
}

/// Servers whose e-mail an SMTP server sends.
fn by_smtp(url: &str, setup: Setup) -> Setup {
    Setup { mail: Some(Arc::new(settings(url))), ..setup }
}

/// The letters that were written since, those of one event in their order.
async fn since(world: &World, folder: &Path, known: &mut HashSet<String>) -> Vec<Letter> {
    world.delivers().await;
    letters(folder).into_iter().filter(|letter| known.insert(letter.id.clone())).collect()
}

database_tests! {
    async fn whoever_is_invited_gets_a_link_by_which_they_join_and_whoever_invited_them_hears_of_it(backend: Backend) {
        let folder = TempDir::new().unwrap();
        let world = World::with(backend, into_folder(folder.path(), roomy())).await;
        let ann = world.person("ann").founds("Acme").await;
        let invited = ann.invites(&["Bob@Example.com"], "admin").await.remove(0);
        let mut known = HashSet::new();
        let letter = since(&world, folder.path(), &mut known).await.remove(0);
        assert_eq!((letter.from.as_str(), letter.to.as_str()), ("AI Hub <hello@hub.example.com>", "Bob@example.com"));
        assert_eq!(letter.subject, "ann@example.com has invited you to Acme");
        assert!(letter.automatic && letter.id.ends_with("@hub.example.com"), "{letter:?}");
        assert!(letter.text.contains("with the role Admin") && letter.text.contains("until 2026-01-12 09:00 UTC"), "{}", letter.text);
        // The link of the mail and the token of the answer are two ways to the same invitation.
        let (token, bob) = (letter.token(), world.person("bob"));
        assert_ne!(token, invited.token);
        let invitation_id = invited.invitation.unwrap().invitation_id;
        for token in [&token, &invited.token] {
            let request = pb::GetReceivedInvitationRequest { token: token.clone() };
            let received = bob.members().get_received_invitation(request).await.unwrap().into_inner().invitation.unwrap();
            assert_eq!(received.invitation.unwrap().invitation_id, invitation_id);
        }
        bob.accepts(&token).await;
        let accepted = since(&world, folder.path(), &mut known).await;
        assert_eq!(told(&accepted), [("ann@example.com", "bob@example.com is now a member of Acme")]);
        // It is used up, whichever way.
        for token in [&token, &invited.token] {
            assert_eq!(bob.tries_to_accept(token).await.unwrap_err().is().1, "INVITATION_NOT_PENDING");
        }
        world.end().await;
    }

    async fn the_link_of_a_mail_is_worthless_once_the_invitation_is_sent_again(backend: Backend) {
        let folder = TempDir::new().unwrap();
        let world = World::with(backend, into_folder(folder.path(), roomy())).await;
        let ann = world.person("ann").founds("Acme").await;
        let invited = ann.invites(&["bob@example.com"], "member").await.remove(0);
        let mut known = HashSet::new();
        let first = since(&world, folder.path(), &mut known).await.remove(0).token();
        world.pass(TimeDelta::hours(1));
        ann.tries_to_resend(&invited.invitation.unwrap().invitation_id).await.unwrap();
        let second = since(&world, folder.path(), &mut known).await.remove(0);
        assert!(second.text.contains("Links in earlier e-mails no longer work"), "{}", second.text);
        let bob = world.person("bob");
        for worthless in [&first, &invited.token] {
            assert_eq!(bob.tries_to_accept(worthless).await.unwrap_err().is(), (Code::NotFound, "INVITATION_NOT_FOUND"));
        }
        // Whom it was not sent to hears that it is for another.
        let refused = world.person("eve").tries_to_accept(&second.token()).await.unwrap_err();
        assert_eq!(refused.is(), (Code::PermissionDenied, "INVITATION_EMAIL_MISMATCH"));
        bob.accepts(&second.token()).await;
        world.end().await;
    }

    async fn members_hear_of_their_role_and_of_their_end_but_not_of_what_they_did_themselves(backend: Backend) {
        let folder = TempDir::new().unwrap();
        let world = World::with(backend, into_folder(folder.path(), roomy())).await;
        let ann = world.person("ann").founds("Acme").await;
        ann.brings("bob", "member").await;
        let cas = ann.brings("cas", "member").await;
        let mut known = HashSet::new();
        since(&world, folder.path(), &mut known).await;
        ann.tries_to_change_role("bob", "admin").await.unwrap();
        let letter = since(&world, folder.path(), &mut known).await.remove(0);
        assert_eq!((letter.to.as_str(), letter.subject.as_str()), ("bob@example.com", "Your role in Acme has changed"));
        assert!(letter.text.contains("ann@example.com has changed your role in Acme from Member to Admin"), "{}", letter.text);
        ann.tries_to_remove("bob").await.unwrap();
        let removed = since(&world, folder.path(), &mut known).await;
        assert_eq!(told(&removed), [("bob@example.com", "Your access to Acme has ended")]);
        // Whose address it was is forgotten then.
        assert_eq!(world.number("SELECT count(*) FROM former_member WHERE email IS NOT NULL").await, 0);
        cas.tries_to_leave().await.unwrap();
        assert_eq!(told(&since(&world, folder.path(), &mut known).await), []);
        assert_eq!(world.number("SELECT count(*) FROM former_member WHERE email IS NOT NULL").await, 0);
        world.end().await;
    }

    async fn who_buys_seats_hears_once_that_all_are_taken(backend: Backend) {
        let folder = TempDir::new().unwrap();
        let setup = Setup { plans: Some(plans_with_seats(3)), ..Setup::default() };
        let world = World::with(backend, into_folder(folder.path(), setup)).await;
        let ann = world.person("ann").founds("Acme").await;
        ann.brings("bob", "admin").await;
        let mut known = HashSet::new();
        since(&world, folder.path(), &mut known).await;
        let full = |letters: &[Letter]| {
            let full = letters.iter().filter(|letter| letter.subject == "All seats of Acme are taken");
            full.map(|letter| letter.to.clone()).collect::<Vec<_>>()
        };
        let invited = ann.invites(&["cas@example.com"], "member").await.remove(0);
        assert_eq!(full(&since(&world, folder.path(), &mut known).await), ["ann@example.com"]);
        // That the seat passes to the member is no news, nor that another is refused.
        world.person("cas").accepts(&invited.token).await;
        ann.tries_to_invite(&["dee@example.com"], "member").await.unwrap_err();
        assert_eq!(full(&since(&world, folder.path(), &mut known).await), Vec::<String>::new());
        ann.tries_to_remove("cas").await.unwrap();
        ann.invites(&["dee@example.com"], "member").await;
        assert_eq!(full(&since(&world, folder.path(), &mut known).await), ["ann@example.com"]);
        let events = world.events(&ann.organization_id).await;
        assert_eq!(events.iter().filter(|name| *name == "subscription.seats_full").count(), 2);
        world.end().await;
    }

    async fn who_pays_hears_of_a_trial_three_days_before_its_end_and_of_one_that_ended_nothing(backend: Backend) {
        let folder = TempDir::new().unwrap();
        let world = World::with(backend, into_folder(folder.path(), billed())).await;
        let mut known = HashSet::new();
        let ann = world.person("ann").founds("Acme").await;
        ann.changes(plan("tried")).await.unwrap();
        let bob = world.person("bob").founds("Bob's").await;
        bob.changes(plan("tried")).await.unwrap();
        assert_eq!(told(&since(&world, folder.path(), &mut known).await), []);
        world.pass(TimeDelta::days(11) - TimeDelta::microseconds(1));
        assert_eq!(told(&since(&world, folder.path(), &mut known).await), []);
        bob.cancels(CancellationMode::NowWithCredit).await.unwrap();
        // Whoever pays by then is told, and not who did when it began.
        ann.brings("cas", "member").await;
        ann.tries_to_transfer("cas", "member").await.unwrap();
        since(&world, folder.path(), &mut known).await;
        world.pass(TimeDelta::microseconds(1));
        let letters = since(&world, folder.path(), &mut known).await;
        assert_eq!(told(&letters), [("cas@example.com", "The trial of Tried for Acme is about to end")]);
        assert!(letters[0].text.contains("ends on 2026-01-19 09:00 UTC"), "{}", letters[0].text);
        assert!(letters[0].text.contains("The plan then continues and is charged."), "{}", letters[0].text);
        let service = world.service("billing");
        let dropped = service.mails(&bob.organization_id, &[MailState::Dropped]).await.unwrap();
        assert_eq!(dropped.iter().map(|mail| mail.kind.as_str()).collect::<Vec<_>>(), ["trial_ending"]);
        world.end().await;
    }

    async fn who_pays_hears_that_a_payment_failed_and_so_does_whoever_gets_the_invoices(backend: Backend) {
        let folder = TempDir::new().unwrap();
        let world = World::with(backend, into_folder(folder.path(), billed())).await;
        let service = world.service("billing");
        let ann = world.person("ann").founds("Acme").await;
        let profile = pb::BillingProfile { name: "Acme B.V.".into(), email: "books@acme.example".into(), ..Default::default() };
        let request = pb::UpdateBillingProfileRequest {
            organization_id: ann.organization_id.clone(),
            billing_profile: Some(profile),
            update_mask: Some(prost_types::FieldMask { paths: vec!["name".into(), "email".into()] }),
            ..Default::default()
        };
        ann.billing().update_billing_profile(request).await.unwrap();
        ann.changes(plan("team")).await.unwrap();
        let invoice = ann.invoices().await.remove(0);
        let mut known = HashSet::new();
        since(&world, folder.path(), &mut known).await;
        service.records(&invoice, PaymentState::Failed, 2_000, "1").await.unwrap();
        let letters = since(&world, folder.path(), &mut known).await;
        let subject = format!("Payment failed for Acme: invoice {}", invoice.printed_number);
        assert_eq!(told(&letters), [("ann@example.com", subject.as_str()), ("books@acme.example", subject.as_str())]);
        assert!(letters[0].text.contains("Amount due: EUR 20.00"), "{}", letters[0].text);
        assert!(letters[0].text.contains("Service continues until 2026-01-15 09:00 UTC"), "{}", letters[0].text);
        world.end().await;
    }

    async fn letters_are_in_the_organizations_language_and_look_like_it(backend: Backend) {
        let (folder, templates) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        std::fs::create_dir_all(templates.path().join("nl")).unwrap();
        std::fs::write(templates.path().join("nl/role_changed.txt"), "Subject: {{ before }} > {{ after }}\n\nDag {{ recipient }}\n").unwrap();
        let own = MailSettings { mail_templates: Some(templates.path().into()), ..settings(&format!("folder:{}", folder.path().display())) };
        let world = World::with(backend, Setup { mail: Some(Arc::new(own)), ..roomy() }).await;
        let ann = world.person("ann").founds("Acme <B.V.>").await;
        let branding = pb::Branding { primary_color: "#1a2b3c".into(), logo_uri: "https://acme.example/logo.png".into(), mail_language: "nl".into(), ..Default::default() };
        let chosen = pb::OrganizationSettings { branding: Some(branding), ..Default::default() };
        ann.tries_to_set(&["branding"], chosen).await.unwrap();
        ann.invites(&["bob@example.com"], "member").await;
        let mut known = HashSet::new();
        let letter = since(&world, folder.path(), &mut known).await.remove(0);
        assert_eq!(letter.subject, "ann@example.com nodigt je uit voor Acme <B.V.>");
        assert!(letter.html.contains("lang=\"nl\"") && letter.html.contains("#1a2b3c"), "{}", letter.html);
        assert!(letter.html.contains("acme.example") && letter.html.contains("logo.png") && letter.html.contains("Acme &lt;B.V.&gt;"), "{}", letter.html);
        world.person("bob").accepts(&letter.token()).await;
        ann.tries_to_change_role("bob", "admin").await.unwrap();
        let told = since(&world, folder.path(), &mut known).await;
        let changed = told.into_iter().find(|letter| letter.to == "bob@example.com").unwrap();
        assert_eq!((changed.subject.as_str(), changed.text.trim()), ("Member > Admin", "Dag bob@example.com"));
        // One in which there are no letters is the deployment's.
        let branding = pb::Branding { mail_language: "fr".into(), ..Default::default() };
        let chosen = pb::OrganizationSettings { branding: Some(branding), ..Default::default() };
        ann.tries_to_set(&["branding.mail_language"], chosen).await.unwrap();
        ann.invites(&["cas@example.com"], "member").await;
        assert_eq!(since(&world, folder.path(), &mut known).await[0].subject, "ann@example.com has invited you to Acme <B.V.>");
        world.end().await;
    }

    async fn an_smtp_server_gets_letters_over_tls_with_the_password_and_only_if_it_can_be_trusted(backend: Backend) {
        for speaks in [Speaks::Tls, Speaks::StartTls] {
            let server = SmtpServer::start(speaks, Some("open sesame"));
            let url = match speaks {
                Speaks::Tls => format!("smtps://ann:open%20sesame@localhost:{}", server.port),
                _ => format!("smtp://ann:open%20sesame@localhost:{}?tls=required", server.port),
            };
            let trusting = MailSettings { mail_ca: Some(server.authority.clone()), ..settings(&url) };
            let world = World::with(backend, Setup { mail: Some(Arc::new(trusting)), ..roomy() }).await;
            let ann = world.person("ann").founds("Acme").await;
            ann.invites(&["zo\u{eb}@b\u{fc}cher.example"], "member").await;
            world.delivers().await;
            let taken = server.taken(1);
            assert_eq!((taken.len(), taken[0].by_tls, taken[0].user.as_deref()), (1, true, Some("ann")), "{taken:?}");
            assert_eq!(taken[0].to, ["zo\u{eb}@xn--bcher-kva.example"]);
            assert_eq!(taken[0].letter.subject, "ann@example.com has invited you to Acme");
            world.end().await;

            // Nobody vouches for it.
            let world = World::with(backend, by_smtp(&url, roomy())).await;
            let ann = world.person("ann").founds("Acme").await;
            ann.invites(&["bob@example.com"], "member").await;
            world.delivers().await;
            let mails = world.service("ops").mails(&ann.organization_id, &[]).await.unwrap();
            assert_eq!((mails[0].state(), mails[0].attempts), (MailState::Queued, 1));
            assert!(mails[0].failure.starts_with("the SMTP server"), "{mails:?}");
            assert_eq!(server.taken(1).len(), 1);
            world.end().await;
        }
    }

    async fn what_fails_is_tried_again_ever_more_seldom_until_it_is_parked_and_somebody_has_it_tried_anew(backend: Backend) {
        let server = SmtpServer::start(Speaks::Plainly, None);
        let world = World::with(backend, by_smtp(&format!("smtp://127.0.0.1:{}", server.port), roomy())).await;
        let (ann, service) = (world.person("ann").founds("Acme").await, world.service("ops"));
        ann.invites(&["busy-2@example.com", "unknown@example.com", "cut-1@example.com", "busy-99@example.com"], "member").await;
        let mail = async |to: &str| {
            let mails = service.mails(&ann.organization_id, &[]).await.unwrap();
            mails.into_iter().find(|mail| mail.recipient == to).unwrap()
        };
        world.delivers().await;
        let unknown = mail("unknown@example.com").await;
        assert_eq!((unknown.state(), unknown.attempts, unknown.failure.as_str()), (MailState::Parked, 1, "the SMTP server refused with 550"));
        let busy = mail("busy-2@example.com").await;
        assert_eq!((busy.state(), busy.attempts, busy.failure.as_str()), (MailState::Queued, 1, "the SMTP server refused with 451"));
        let wait = crate::harness::billing::moment(busy.next_attempt_time) - world.clock.now();
        assert!((54..=66).contains(&wait.num_seconds()), "{wait}");
        assert_eq!(mail("cut-1@example.com").await.state(), MailState::Queued);
        world.pass(TimeDelta::seconds(66));
        world.delivers().await;
        assert_eq!((mail("busy-2@example.com").await.attempts, mail("cut-1@example.com").await.state()), (2, MailState::Sent));
        world.pass(TimeDelta::minutes(3));
        world.delivers().await;
        assert_eq!((mail("busy-2@example.com").await.attempts, mail("busy-2@example.com").await.state()), (3, MailState::Sent));
        // From the third attempt to the last.
        for _ in 0..=MOST_ATTEMPTS - 3 {
            world.pass(TimeDelta::minutes(990));
            world.delivers().await;
        }
        let parked = mail("busy-99@example.com").await;
        assert_eq!((parked.state(), i64::from(parked.attempts)), (MailState::Parked, MOST_ATTEMPTS));
        let retried = service.retries(&parked).await.unwrap();
        assert_eq!((retried.state(), retried.attempts), (MailState::Queued, 0));
        world.delivers().await;
        assert_eq!((mail("busy-99@example.com").await.state(), mail("busy-99@example.com").await.attempts), (MailState::Queued, 1));
        // Then the invitation expires: there is nothing to tell.
        world.pass(TimeDelta::days(1));
        world.delivers().await;
        assert_eq!(mail("busy-99@example.com").await.state(), MailState::Dropped);
        let refused = service.retries(&retried).await.unwrap_err();
        assert_eq!((refused.is(), refused.metadata["state"].as_str()), ((Code::FailedPrecondition, "MAIL_NOT_PARKED"), "MAIL_STATE_DROPPED"));
        let refused = service.retries(&pb::Mail { mail_id: ann.organization_id.clone(), ..retried }).await.unwrap_err();
        assert_eq!(refused.is(), (Code::NotFound, "MAIL_NOT_FOUND"));
        let mut sent: Vec<String> = server.taken(2).into_iter().flat_map(|taken| taken.to).collect();
        sent.sort();
        assert_eq!(sent, ["busy-2@example.com", "cut-1@example.com"]);
        // What ended is known for a month.
        world.pass(TimeDelta::days(31));
        world.sweeps().await;
        assert_eq!(service.mails(&ann.organization_id, &[]).await.unwrap(), []);
        world.end().await;
    }

    async fn a_mail_that_waits_is_replaced_when_the_invitation_is_sent_again_and_dropped_when_it_is_canceled(backend: Backend) {
        let server = SmtpServer::start(Speaks::Plainly, None);
        let world = World::with(backend, by_smtp(&format!("smtp://127.0.0.1:{}", server.port), roomy())).await;
        let (ann, service) = (world.person("ann").founds("Acme").await, world.service("ops"));
        let invited = ann.invites(&["busy-1@example.com", "busy-3@example.com"], "member").await;
        let ids: Vec<String> = invited.into_iter().map(|one| one.invitation.unwrap().invitation_id).collect();
        world.delivers().await;
        world.pass(TimeDelta::seconds(10));
        ann.tries_to_resend(&ids[0]).await.unwrap();
        ann.tries_to_cancel(&[&ids[1]]).await.unwrap();
        world.delivers().await;
        let mails = service.mails(&ann.organization_id, &[]).await.unwrap();
        let mut states: Vec<_> = mails.iter().map(|mail| (mail.recipient.as_str(), mail.state())).collect();
        states.sort_by_key(|(to, state)| (to.to_owned(), *state as i32));
        assert_eq!(
            states,
            [
                ("busy-1@example.com", MailState::Sent),
                ("busy-1@example.com", MailState::Dropped),
                ("busy-3@example.com", MailState::Dropped),
            ]
        );
        world.pass(TimeDelta::hours(20));
        world.delivers().await;
        let taken = server.taken(1);
        assert_eq!(taken.len(), 1);
        world.person("busy-1").accepts(&taken[0].letter.token()).await;
        world.end().await;
    }

    async fn what_is_not_so_any_more_is_not_told_late(backend: Backend) {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let setup = Setup { plans: Some(plans_with_seats(3)), ..Setup::default() };
        let world = World::with(backend, by_smtp(&format!("smtp://127.0.0.1:{port}"), setup)).await;
        let (ann, service) = (world.person("ann").founds("Acme").await, world.service("ops"));
        ann.brings("bob", "member").await;
        ann.brings("cas", "member").await;
        ann.tries_to_change_role("bob", "admin").await.unwrap();
        ann.tries_to_change_role("bob", "member").await.unwrap();
        ann.tries_to_remove("cas").await.unwrap();
        ann.brings("cas", "member").await;
        ann.tries_to_remove("bob").await.unwrap();
        world.delivers().await;
        let mails = service.mails(&ann.organization_id, &[MailState::Queued]).await.unwrap();
        assert!(mails.iter().all(|mail| mail.failure == "the SMTP server could not be reached"), "{mails:?}");
        // By now bob is no member, cas is one again, and a seat is free.
        let server = SmtpServer::start_at(port, Speaks::Plainly, None);
        world.pass(TimeDelta::hours(1));
        world.delivers().await;
        // What was tried while cas was away was dropped as well; that they came back is told once at least.
        let taken = server.taken(2);
        let told: Vec<&str> = taken.iter().map(|taken| taken.letter.subject.as_str()).collect();
        assert!(told.iter().all(|subject| subject.ends_with("a member of Acme") || subject.ends_with("has ended")), "{told:?}");
        let ended: Vec<_> = taken.iter().filter(|taken| taken.letter.subject.ends_with("has ended")).collect();
        assert_eq!(ended.iter().flat_map(|taken| &taken.to).collect::<Vec<_>>(), ["bob@example.com"]);
        world.end().await;
    }

    async fn what_a_server_was_sending_when_it_died_another_sends_two_minutes_later(backend: Backend) {
        let folder = TempDir::new().unwrap();
        let world = World::with(backend, into_folder(folder.path(), roomy())).await;
        let (ann, service) = (world.person("ann").founds("Acme").await, world.service("ops"));
        ann.invites(&["bob@example.com"], "member").await;
        world.delivers().await;
        let first = letters(folder.path()).remove(0);
        // As if it had died between sending the letter and saying so.
        let died = "UPDATE mail SET state = 'queued', ended_at = NULL, due_at = '2026-01-05T09:02:00+00:00'";
        world.tampers(died).await;
        world.pass(TimeDelta::minutes(2) - TimeDelta::microseconds(1));
        world.delivers().await;
        assert_eq!(service.mails(&ann.organization_id, &[MailState::Queued]).await.unwrap().len(), 1);
        world.pass(TimeDelta::microseconds(1));
        world.delivers().await;
        let mail = service.mails(&ann.organization_id, &[]).await.unwrap().remove(0);
        assert_eq!((mail.state(), mail.attempts), (MailState::Sent, 2));
        // It came twice, and both times it is the same letter, whose link opens.
        let second = letters(folder.path()).remove(0);
        assert_eq!(first.id, second.id);
        for token in [first.token(), second.token()] {
            let request = pb::GetReceivedInvitationRequest { token };
            world.person("bob").members().get_received_invitation(request).await.unwrap();
        }
        world.end().await;
    }

    async fn a_link_that_was_mailed_is_worthless_after_a_resend_also_by_a_server_without_e_mail(backend: Backend) {
        let folder = TempDir::new().unwrap();
        let mut world = World::with(backend, into_folder(folder.path(), roomy())).await;
        let ann = world.person("ann").founds("Acme").await;
        let invited = ann.invites(&["bob@example.com"], "member").await.remove(0);
        world.delivers().await;
        let mailed = letters(folder.path())[0].token();
        world.setup.mail = None;
        world.switches_policy_to("owner-billing").await;
        world.pass(TimeDelta::seconds(1));
        let ann = Person { channel: world.channel(), ..ann };
        let resent = ann.tries_to_resend(&invited.invitation.unwrap().invitation_id).await.unwrap();
        let bob = world.person("bob");
        assert_eq!(bob.tries_to_accept(&mailed).await.unwrap_err().is().1, "INVITATION_NOT_FOUND");
        bob.accepts(&resent.token).await;
        world.end().await;
    }

    async fn of_what_is_sent_again_while_it_is_sent_only_the_last_link_opens(backend: Backend) {
        let folder = TempDir::new().unwrap();
        let world = World::with(backend, into_folder(folder.path(), Setup { servers: 2, ..roomy() })).await;
        let ann = world.person("ann").founds("Acme").await;
        let invited = ann.invites(&["bob@example.com"], "member").await.remove(0);
        let (id, bob) = (invited.invitation.unwrap().invitation_id, world.person("bob"));
        let mut known = HashSet::new();
        for _ in 0..8 {
            world.pass(TimeDelta::seconds(1));
            let ((), resent) = tokio::join!(world.delivers(), ann.tries_to_resend(&id));
            resent.unwrap();
        }
        let mut letters = since(&world, folder.path(), &mut known).await;
        assert!(!letters.is_empty() && letters.len() <= 9, "{}", letters.len());
        let last = letters.pop().unwrap().token();
        for letter in letters {
            assert_eq!(bob.tries_to_accept(&letter.token()).await.unwrap_err().is().1, "INVITATION_NOT_FOUND");
        }
        bob.accepts(&last).await;
        world.end().await;
    }

    async fn two_servers_send_each_letter_once(backend: Backend) {
        let folder = TempDir::new().unwrap();
        let setup = Setup { servers: 2, ..roomy() };
        let world = World::with(backend, into_folder(folder.path(), setup)).await;
        let ann = world.person("ann").founds("Acme").await;
        let emails: Vec<String> = (0..60).map(|number| format!("person{number}@example.com")).collect();
        ann.invites(&emails.iter().map(String::as_str).collect::<Vec<_>>(), "member").await;
        world.delivers().await;
        let letters = letters(folder.path());
        let (to, ids): (HashSet<_>, HashSet<_>) = letters.iter().map(|letter| (letter.to.clone(), letter.id.clone())).unzip();
        assert_eq!((letters.len(), to.len(), ids.len()), (60, 60, 60));
        assert_eq!(world.number("SELECT count(*) FROM invitation_token").await, 60, "one token for each letter");
        let mails = world.service("ops").mails(&ann.organization_id, &[]).await.unwrap();
        assert!(mails.iter().all(|mail| (mail.state(), mail.attempts) == (MailState::Sent, 1)), "{mails:?}");
        world.end().await;
    }

    async fn without_e_mail_the_answer_alone_has_the_token_and_nothing_is_told_later(backend: Backend) {
        let folder = TempDir::new().unwrap();
        let mut world = World::with(backend, roomy()).await;
        let ann = world.person("ann").founds("Acme").await;
        let invited = ann.invites(&["bob@example.com", "cas@example.com"], "member").await;
        world.delivers().await;
        assert_eq!(world.number("SELECT count(*) FROM mail").await, 0);
        world.person("bob").accepts(&invited[0].token).await;
        ann.tries_to_remove("bob").await.unwrap();
        world.delivers().await;
        assert_eq!(world.number("SELECT count(*) FROM former_member WHERE email IS NOT NULL").await, 0);
        // It is turned on: what happens from then on is told.
        world.setup = into_folder(folder.path(), world.setup.clone());
        world.switches_policy_to("owner-billing").await;
        let ann = Person { channel: world.channel(), ..ann };
        ann.invites(&["dee@example.com"], "member").await;
        world.delivers().await;
        assert_eq!(told(&letters(folder.path())), [("dee@example.com", "ann@example.com has invited you to Acme")]);
        world.end().await;
    }

    async fn only_services_see_and_retry_e_mail_and_an_organization_that_is_purged_takes_its_own_along(backend: Backend) {
        let folder = TempDir::new().unwrap();
        let world = World::with(backend, into_folder(folder.path(), roomy())).await;
        let (ann, service) = (world.person("ann").founds("Acme").await, world.service("ops"));
        ann.invites(&["bob@example.com"], "member").await;
        world.delivers().await;
        assert_eq!(ann.mails(&ann.organization_id, &[]).await.unwrap_err().is(), (Code::PermissionDenied, "SERVICE_REQUIRED"));
        let mail = service.mails(&ann.organization_id, &[MailState::Sent]).await.unwrap().remove(0);
        assert_eq!(ann.retries(&mail).await.unwrap_err().is(), (Code::PermissionDenied, "SERVICE_REQUIRED"));
        assert_eq!((mail.kind.as_str(), mail.recipient.as_str(), mail.event_number), ("invitation", "bob@example.com", 3));
        // No token is anywhere but in the letter.
        let token = letters(folder.path())[0].token();
        for column in ["CAST(letter AS text)", "failure", "recipient"] {
            assert_eq!(world.number(&format!("SELECT count(*) FROM mail WHERE {column} LIKE '%{token}%'")).await, 0);
        }
        ann.deletes_organization().await;
        world.pass(TimeDelta::days(31));
        world.sweeps().await;
        assert_eq!(world.number("SELECT count(*) FROM mail").await + world.number("SELECT count(*) FROM invitation_token").await, 0);
        world.end().await;
    }
}
