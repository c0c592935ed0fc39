use proptest::prelude::*;

use super::*;

/// What becomes of settings that have only this set; nothing when it is refused.
fn read(new: pb::OrganizationSettings) -> Option<Settings> {
    let (mut settings, mut fields) = (Settings::default(), Fields::new());
    New::of(Some(new)).set(&mut settings, &PATHS, &mut fields);
    fields.done(settings).ok()
}

fn ranges(ranges: &[&str]) -> Option<Vec<String>> {
    let allowed_ip_ranges = ranges.iter().map(|range| (*range).to_owned()).collect();
    let security = pb::SecuritySettings { allowed_ip_ranges, ..Default::default() };
    read(pb::OrganizationSettings { security: Some(security), ..Default::default() })
        .map(|settings| settings.security.allowed_ip_ranges)
}

proptest! {
    #[test]
    fn what_is_shown_is_read_as_itself(
        colors in prop::array::uniform2("#[0-9a-fA-F]{6}|"),
        methods in prop::collection::vec(1..=8i32, 0..12),
        flags in any::<[bool; 4]>(),
        session in prop::option::of((300..=31_535_999i64, 0..1_000_000i32)),
        domains in prop::collection::vec("[a-zA-Z]{1,8}\\.(com|NL)", 0..12),
        networks in prop::collection::vec((any::<u32>(), 0..=32u8), 0..12),
        models in prop::collection::vec("[a-z]{1,3}", 0..12),
        retention in prop::option::of(0..=3650i32),
    ) {
        let [primary_color, accent_color] = colors;
        let ranges = networks.iter().map(|(address, prefix)| format!("{}/{prefix}", std::net::Ipv4Addr::from(*address)));
        let given = pb::OrganizationSettings {
            branding: Some(pb::Branding { logo_uri: "https://a.example/b".into(), primary_color, accent_color, mail_language: "pt-BR".into() }),
            security: Some(pb::SecuritySettings {
                allowed_sign_in_methods: methods,
                mfa_required: flags[0],
                session_length: session.map(|(seconds, micros)| prost_types::Duration { seconds, nanos: micros * 1000 }),
                allowed_email_domains: domains,
                allowed_ip_ranges: ranges.collect(),
                external_sharing_allowed: flags[1],
            }),
            ai: Some(pb::AiSettings {
                allowed_models: models,
                default_model: "abc".into(),
                training_allowed: flags[2],
                retention_days: retention,
                redact_personal_data: flags[3],
                safety_level: 2,
            }),
            setup: Some(pb::SetupSettings { dismissed: true, dismissed_steps: vec![6, 2, 2] }),
            ..Default::default()
        };
        let once = read(given).expect("sound settings");
        let again = read(once.clone().shown()).expect("what is shown is sound");
        prop_assert_eq!(&again, &once);
        let stored: Settings = serde_json::from_value(serde_json::to_value(&once).unwrap()).unwrap();
        prop_assert_eq!(stored.ai, once.ai);
        prop_assert_eq!(stored.security, once.security);
    }

    #[test]
    fn only_the_fields_of_the_mask_change(chosen in prop::collection::vec(any::<bool>(), PATHS.len())) {
        let full = pb::OrganizationSettings {
            branding: Some(pb::Branding {
                logo_uri: "https://a.example/b".into(),
                primary_color: "#000000".into(),
                accent_color: "#ffffff".into(),
                mail_language: "nl".into(),
            }),
            security: Some(pb::SecuritySettings {
                allowed_sign_in_methods: vec![1],
                mfa_required: true,
                session_length: Some(prost_types::Duration { seconds: 600, nanos: 0 }),
                allowed_email_domains: vec!["acme.com".into()],
                allowed_ip_ranges: vec!["10.0.0.0/8".into()],
                external_sharing_allowed: true,
            }),
            ai: Some(pb::AiSettings {
                allowed_models: vec!["large".into()],
                default_model: "large".into(),
                training_allowed: true,
                retention_days: Some(0),
                redact_personal_data: true,
                safety_level: 3,
            }),
            setup: Some(pb::SetupSettings { dismissed: true, dismissed_steps: vec![1] }),
            ..Default::default()
        };
        let paths: Vec<&'static str> = PATHS.iter().zip(&chosen).filter(|(_, chosen)| **chosen).map(|(path, _)| *path).collect();
        let (mut settings, mut fields) = (Settings::default(), Fields::new());
        let changes = New::of(Some(full.clone())).set(&mut settings, &paths, &mut fields);
        prop_assert_eq!(changes.iter().map(|change| change.field.as_str()).collect::<Vec<_>>(), paths);
        for path in PATHS.iter().zip(&chosen).filter(|(_, chosen)| !**chosen).map(|(path, _)| *path) {
            prop_assert_eq!(settings.text(path), Settings::default().text(path), "{}", path);
        }
        // The same again is no change.
        let paths: Vec<&'static str> = changes.iter().filter_map(|change| PATHS.into_iter().find(|path| *path == change.field)).collect();
        prop_assert!(New::of(Some(full)).set(&mut settings, &paths, &mut fields).is_empty());
    }
}

#[test]
fn networks_have_one_form() {
    let forms = ["10.1.2.3/8", " 10.0.0.0/8", "2001:DB8:0:0::1/32", "::/0", "192.0.2.1/32"];
    assert_eq!(ranges(&forms).unwrap(), ["10.0.0.0/8", "192.0.2.1/32", "2001:db8::/32", "::/0"]);
    for wrong in ["", "10.0.0.0", "10.0.0.0/33", "010.0.0.0/8", "10.0.0/8", "::1/129", "acme.com/8", "10.0.0.0/-1"] {
        assert_eq!(ranges(&[wrong]), None, "{wrong:?} was taken");
    }
}
