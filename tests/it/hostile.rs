//! Whoever means harm: the server as a process, attacked by frames that no library sends, while somebody else goes on with their work.
//!
//! What a single message may do is in `bad_input`; here it is how it comes, and how much of it. Each attack tells a line
//! of a table: what it was, how long it took, what became of it, what the victim noticed, and memory before, at its peak and after.

use std::collections::BTreeSet;
use std::time::Duration;

use prost::Message as _;
use tenantry::pb;
use tenantry::pb::MemberState;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::harness::Backend;
use crate::harness::binary::{Home, until};
use crate::harness::certificates::Authority;
use crate::harness::frames::{
    self, ENHANCE_YOUR_CALM, FLOW_CONTROL_ERROR, REFUSED_STREAM, Wire, block, call, data, flag, frame, headers, kind,
    ping, reset, setting, settings, window_update,
};
use crate::harness::methods::methods;
use crate::harness::person::{Identity, Person};
use crate::harness::raw::{self, framed};
use crate::harness::siege::{Siege, takes_connections};

const READ: &str = "/tenantry.v1.BillingService/GetSeatUsage";
const FOUND: &str = "/tenantry.v1.OrganizationService/CreateOrganization";
const LIST: &str = "/tenantry.v1.MembershipService/ListMembers";
const HEALTH: &str = "/grpc.health.v1.Health/Check";
const REFLECTION: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";

/// The largest message that is taken.
const LARGEST: usize = 1024 * 1024;

/// The numbers of the first streams of a client.
fn streams(count: u32) -> impl Iterator<Item = u32> {
    (0..count).map(|number| 2 * number + 1)
}

fn nobody() -> Identity {
    Identity::default()
}

fn seats_of(person: &Person) -> Vec<u8> {
    let request = pb::GetSeatUsageRequest { organization_id: person.organization_id.clone(), time: None };
    framed(&request.encode_to_vec())
}

fn founding(name: &str) -> Vec<u8> {
    framed(&pb::CreateOrganizationRequest { name: name.into(), ..Default::default() }.encode_to_vec())
}

/// The headers of a call, with more.
fn call_with(path: &str, identity: &Identity, more: &[(&str, &str)]) -> Vec<u8> {
    [call(path, identity), block(more)].concat()
}

// === calls

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_are_begun_and_never_ended_are_a_hundred_a_connection_and_end_in_time() {
    let siege = Siege::begin(&[]).await;
    let mallory = siege.somebody("mallory").founds("Malice").await;
    siege
        .withstands("150 calls begun on one connection, none ended", async {
            let mut wire = Wire::open(siege.address(), &[]).await;
            let head = call(READ, &mallory.identity);
            wire.floods(streams(150).map(|stream| headers(stream, false, &head))).await;
            assert!(wire.is_heard().await, "{:?}", wire.seen());
            assert_eq!(wire.seen().resets.get(&REFUSED_STREAM), Some(&50));
            wire.seen().told()
        })
        .await;
    siege
        .withstands("5,000 calls begun on one connection, none ended", async {
            let mut wire = Wire::open(siege.address(), &[]).await;
            let head = call(READ, &mallory.identity);
            let sent = wire.floods(streams(5000).map(|stream| headers(stream, false, &head))).await;
            let stays = wire.is_heard().await;
            let (seen, under_way) = (wire.seen(), siege.metric("rpcs_under_way").await);
            assert!(under_way <= 102.0, "{under_way} calls under way");
            assert!(!stays || seen.resets.get(&REFUSED_STREAM) == Some(&4900), "{sent} sent: {seen:?}");
            seen.told()
        })
        .await;
    siege
        .withstands("5,000 slow calls on 50 connections, a byte a second each, 4 s until their deadline", async {
            let head = call_with(READ, &mallory.identity, &[("grpc-timeout", "4S")]);
            let body = seats_of(&mallory);
            let mut wires = Vec::new();
            for _ in 0..50 {
                let wire = Wire::open(siege.address(), &[]).await;
                wire.floods(streams(100).map(|stream| headers(stream, false, &head))).await;
                wires.push(wire);
            }
            for byte in body.iter().take(4) {
                for wire in &wires {
                    wire.floods(streams(100).map(|stream| data(stream, false, &[*byte]))).await;
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            for wire in &wires {
                let seen = wire.until(|seen| seen.ended == 100 || seen.closed).await;
                assert!(!seen.closed, "they are refused, and stay: {seen:?}");
            }
            "all refused in time".into()
        })
        .await;
    siege.ends().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_are_reset_at_once_end_their_connection_or_cost_next_to_nothing() {
    let siege = Siege::begin(&[]).await;
    let mallory = siege.somebody("mallory").founds("Malice").await;
    for (who, identity) in [("nobody", nobody()), ("a member", mallory.identity.clone())] {
        siege
            .withstands(&format!("rapid reset: 20,000 calls of {who}, opened and reset in one breath"), async {
                let wire = Wire::open(siege.address(), &[]).await;
                let head = call(READ, &identity);
                wire.floods(streams(20_000).map(|stream| [headers(stream, false, &head), reset(stream)].concat()))
                    .await;
                let seen = wire.closes().await;
                assert!(seen.gone.is_none_or(|reason| reason == ENHANCE_YOUR_CALM), "{seen:?}");
                seen.told()
            })
            .await;
    }
    // Never more at a time than a server bears with.
    for (what, count, path, identity, body) in [
        ("20,000 calls of nobody", 20_000, READ, nobody(), Vec::new()),
        ("4,000 reads of a member", 4_000, READ, mallory.identity.clone(), seats_of(&mallory)),
        ("2,000 foundings of a member", 2_000, FOUND, mallory.identity.clone(), founding("Malice")),
    ] {
        siege
            .withstands(&format!("rapid reset, ten at a time: {what}"), async {
                let mut wire = Wire::open(siege.address(), &[]).await;
                let head = call(path, &identity);
                let all: Vec<_> = streams(count).collect();
                for ten in all.chunks(10) {
                    wire.floods(
                        ten.iter().map(|stream| [headers(*stream, false, &head), data(*stream, true, &body)].concat()),
                    )
                    .await;
                    wire.floods(ten.iter().map(|stream| reset(*stream))).await;
                    if !wire.is_heard().await {
                        break;
                    }
                }
                wire.seen().told()
            })
            .await;
    }
    siege.ends().await;
}

// === frames that cost the sender little

#[tokio::test(flavor = "multi_thread")]
async fn floods_of_small_frames_drown_nobody() {
    let siege = Siege::begin(&[]).await;
    let open = async || Wire::open(siege.address(), &[]).await;
    siege
        .withstands("100,000 pings", async {
            let wire = open().await;
            wire.floods((0..100_000).map(ping)).await;
            let seen = wire.until(|seen| seen.pongs == 100_000 || seen.closed).await;
            format!("{} pongs, {}", seen.pongs, seen.told())
        })
        .await;
    siege
        .withstands("1,000,000 pings of somebody who does not read", async {
            let wire = Wire::deaf(siege.address()).await;
            let all = wire.floods_until_it_stalls((0..1_000_000).map(ping)).await;
            assert!(all < 17 * 1_000_000, "whoever is not heard is not listened to");
            format!("{all} of 17,000,000 bytes read")
        })
        .await;
    siege
        .withstands("20,000 settings", async {
            let wire = open().await;
            wire.floods((0..20_000).map(|number| settings(&[(setting::MAX_FRAME_SIZE, 16_384 + number)]))).await;
            let seen = wire.until(|seen| seen.settings_acknowledged > 20_000 || seen.closed).await;
            format!("{} acknowledged, {}", seen.settings_acknowledged, seen.told())
        })
        .await;
    siege
        .withstands("20,000 settings that move the windows of a hundred calls", async {
            let wire = open().await;
            let head = call(HEALTH, &nobody());
            wire.floods(streams(100).map(|stream| headers(stream, false, &head))).await;
            wire.floods((0..20_000).map(|number| settings(&[(setting::INITIAL_WINDOW_SIZE, number % 2)]))).await;
            let seen = wire.until(|seen| seen.settings_acknowledged > 20_000 || seen.closed).await;
            format!("{} acknowledged, {}", seen.settings_acknowledged, seen.told())
        })
        .await;
    for (what, frame) in [
        ("priorities", frame(kind::PRIORITY, 0, 1, &[0, 0, 0, 0, 1])),
        ("frames of a kind that there is not", frame(0x77, 0xff, 1, &[0; 8])),
        ("updates of the window, by 1", window_update(0, 1)),
    ] {
        siege
            .withstands(&format!("100,000 {what}"), async {
                let mut wire = open().await;
                wire.floods(std::iter::repeat_n(frame, 100_000)).await;
                let stays = wire.is_heard().await;
                format!("{}, {}", wire.seen().told(), if stays { "stays" } else { "gone" })
            })
            .await;
    }
    siege
        .withstands("updates that overflow the window of a call, and of the connection", async {
            let mut wire = open().await;
            wire.sends(&headers(1, false, &call(HEALTH, &nobody()))).await;
            let most = window_update(1, 0x7fff_ffff);
            wire.sends(&most).await;
            assert!(wire.is_heard().await, "only the call is wrong");
            assert_eq!(wire.seen().resets.get(&FLOW_CONTROL_ERROR), Some(&1));
            wire.sends(&window_update(0, 0x7fff_ffff)).await;
            let seen = wire.closes().await;
            assert_eq!(seen.gone, Some(FLOW_CONTROL_ERROR));
            seen.told()
        })
        .await;
    siege
        .withstands("5,000 calls of somebody who would remember headers of 4 GiB", async {
            let wire = Wire::open(siege.address(), &[(setting::HEADER_TABLE_SIZE, u32::MAX)]).await;
            let seen = wire.asks(5_000, 50, |stream| {
                headers(stream, true, &call_with(READ, &nobody(), &[("x-request-id", &format!("{stream:0>128}"))]))
            });
            assert!(!seen.await.closed, "{:?}", wire.seen());
            wire.seen().told()
        })
        .await;
    siege.ends().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_in_crumbs_is_a_body_or_the_end_of_its_connection() {
    let siege = Siege::begin(&[]).await;
    let mallory = siege.somebody("mallory").founds("Malice").await;
    siege
        .withstands("a body of 10,000 empty frames", async {
            let wire = Wire::open(siege.address(), &[]).await;
            wire.sends(&headers(1, false, &call(READ, &mallory.identity))).await;
            wire.floods(std::iter::repeat_n(data(1, false, &[]), 10_000)).await;
            let seen = wire.closes().await;
            assert_eq!(seen.gone, Some(ENHANCE_YOUR_CALM));
            seen.told()
        })
        .await;
    let large = founding(&"x".repeat(LARGEST - 8));
    for (who, identity) in [("a member", mallory.identity.clone()), ("nobody, who is refused before", nobody())] {
        siege
            .withstands(&format!("a message of 1 MiB a byte at a time, of {who}"), async {
                let mut wire = Wire::open(siege.address(), &[]).await;
                wire.sends(&headers(1, false, &call(FOUND, &identity))).await;
                wire.pours(1, &large, 1).await;
                wire.sends(&data(1, true, &[])).await;
                wire.is_heard().await;
                let seen = wire.until(|seen| seen.ended == 1 || seen.closed).await;
                assert!(seen.ended == 1 || seen.gone == Some(ENHANCE_YOUR_CALM), "{seen:?}");
                seen.told()
            })
            .await;
    }
    siege
        .withstands("250,000 bytes a byte at a time into 100 calls that are refused, without waiting", async {
            let wire = Wire::open(siege.address(), &[]).await;
            let head = call(FOUND, &nobody());
            wire.floods(streams(100).map(|stream| headers(stream, false, &head))).await;
            wire.floods((0..250_000).map(|number| data(2 * (number % 100) + 1, false, &[0]))).await;
            wire.until(|seen| seen.ended == 100 || seen.closed).await.told()
        })
        .await;
    siege
        .withstands("a byte and 255 of padding, 9 times, in each of 100 calls", async {
            let mut wire = Wire::open(siege.address(), &[]).await;
            let head = call(FOUND, &mallory.identity);
            let padded = [&[255, 0][..], &[0; 255]].concat();
            wire.floods(streams(100).map(|stream| headers(stream, false, &head))).await;
            wire.floods((0..900).map(|number| frame(kind::DATA, flag::PADDED, 2 * (number % 100) + 1, &padded))).await;
            wire.is_heard().await;
            wire.seen().told()
        })
        .await;
    siege.ends().await;
}

// === answers that nobody takes

#[tokio::test(flavor = "multi_thread")]
async fn whoever_does_not_take_answers_is_cut_off_and_what_waited_is_bounded() {
    let siege = Siege::begin(&[]).await;
    let mallory = siege.somebody("mallory").founds("Malice").await;
    let emails: Vec<_> = (0..200).map(|number| format!("somebody.{number}.{}@example.com", "x".repeat(40))).collect();
    for some in emails.chunks(100) {
        mallory.invites(&some.iter().map(String::as_str).collect::<Vec<_>>(), "member").await;
    }
    let list = pb::ListMembersRequest {
        organization_id: mallory.organization_id.clone(),
        page_size: 200,
        states: vec![MemberState::Pending.into()],
        ..Default::default()
    };
    let (head, body) = (call(LIST, &mallory.identity), framed(&list.encode_to_vec()));
    let answered = raw::send(&siege.victim.channel, LIST, &mallory.identity, &list.encode_to_vec()).await;
    let size = answered.outcome.expect("a list").len();
    assert!(size > 16 * 1024, "{size} bytes are no long list");
    siege
        .withstands("4 connections with a window of 0, and of 1: 100 long lists each, never read", async {
            let mut wires = Vec::new();
            for number in 0..4 {
                let wire = Wire::open(siege.address(), &[(setting::INITIAL_WINDOW_SIZE, number % 2)]).await;
                for (asked, stream) in streams(100).enumerate() {
                    wire.sends(&[headers(stream, false, &head), data(stream, true, &body)].concat()).await;
                    // No more at a time than there is room for.
                    wire.until(|seen| seen.headers + 9 >= asked || seen.closed).await;
                }
                wires.push(wire);
            }
            for wire in &wires {
                let seen = wire.until(|seen| seen.headers >= 100 || seen.closed).await;
                assert!(seen.headers == 100 && seen.ended == 0, "all are answered, and none is taken: {seen:?}");
            }
            let began = tokio::time::Instant::now();
            for wire in &wires {
                let seen = wire.closes().await;
                assert!(seen.ended == 0 && seen.data_bytes <= 100, "{seen:?}");
            }
            format!("all cut off, the last {:.0} s after its last answer", began.elapsed().as_secs_f64())
        })
        .await;
    assert!((siege.metric("connections_stuck_total").await - 4.0).abs() < 0.1);
    siege.ends().await;
}

// === headers

/// Headers in as many frames as they need.
fn in_frames(block: &[u8]) -> Vec<u8> {
    let mut pieces = block.chunks(16_384);
    let mut bytes = frame(kind::HEADERS, flag::END_STREAM, 1, pieces.next().expect("a piece"));
    pieces.for_each(|piece| bytes.extend(frame(kind::CONTINUATION, 0, 1, piece)));
    bytes.extend(frame(kind::CONTINUATION, flag::END_HEADERS, 1, &[]));
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_are_no_larger_than_there_is_use_for() {
    let siege = Siege::begin(&[]).await;
    let long = "x".repeat(100 * 1024);
    let many: Vec<_> = (0..10_000).map(|number| (format!("x-{number}"), "y")).collect();
    let many: Vec<_> = many.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    // One value that is remembered, and said again by a byte each.
    let mut bomb = vec![0x40];
    frames::string(&mut bomb, b"x-bomb");
    frames::string(&mut bomb, &[b'y'; 4000]);
    bomb.extend(vec![0xbe; 60_000]);
    for (what, block) in [
        ("a header of 100 KiB", call_with(READ, &nobody(), &[("x-long", &long)])),
        ("a path of 100 KiB", call(&format!("/{long}"), &nobody())),
        ("10,000 headers", call_with(READ, &nobody(), &many)),
        ("headers of 240 MB, in 64 KB of references", [call(READ, &nobody()), bomb].concat()),
    ] {
        siege
            .withstands(&format!("{what}, 20 times"), async {
                let mut fates = BTreeSet::new();
                for _ in 0..20 {
                    let wire = Wire::open(siege.address(), &[]).await;
                    wire.sends(&in_frames(&block)).await;
                    let seen = wire.until(|seen| seen.headers > 0 || !seen.resets.is_empty() || seen.closed).await;
                    assert!(seen.data_bytes == 0, "{seen:?}");
                    fates.insert(seen.told());
                }
                fates.into_iter().collect::<Vec<_>>().join("; or ")
            })
            .await;
    }
    for (what, piece) in [("empty", Vec::new()), ("full", block(&[("x", &"y".repeat(16_000))]))] {
        siege
            .withstands(&format!("a flood of 100,000 {what} frames of headers that never end"), async {
                let wire = Wire::open(siege.address(), &[]).await;
                let head = call(READ, &nobody());
                wire.sends(&frame(kind::HEADERS, 0, 1, &head)).await;
                let sent = wire.floods((0..100_000).map(|_| frame(kind::CONTINUATION, 0, 1, &piece))).await;
                let seen = wire.closes().await;
                assert!(sent < 100_000, "all were taken");
                seen.told()
            })
            .await;
    }
    siege
        .withstands("1,000 calls with headers of 15 KiB, as large as they may be", async {
            let wire = Wire::open(siege.address(), &[]).await;
            let block = call_with(READ, &nobody(), &[("x-long", &"x".repeat(15 * 1024))]);
            let seen = wire.asks(1_000, 10, |stream| headers(stream, true, &block)).await;
            assert!(!seen.closed, "{seen:?}");
            seen.told()
        })
        .await;
    siege.ends().await;
}

// === messages

/// Zeros of more than a hundred times the size, as gzip packs them: one zero, and "258 more of it" again and again.
fn gzip_bomb(size: usize) -> Vec<u8> {
    let mut bytes = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    let (mut bits, mut count) = (0u32, 0);
    let mut put = |value: u32, width: u32| {
        bits |= value << count;
        count += width;
        while count >= 8 {
            bytes.push(u8::try_from(bits & 0xff).expect("a byte"));
            (bits, count) = (bits >> 8, count - 8);
        }
        bytes.len()
    };
    // The last block, by the codes that need not be said (RFC 1951 section 3.2.6): codes begin with their highest bit.
    put(0b011, 3);
    put(0b0000_1100, 8);
    while put(0b1010_0011, 8) < size {
        put(0, 5);
    }
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_too_much_is_not_even_read() {
    let siege = Siege::begin(&[]).await;
    let mallory = siege.somebody("mallory").founds("Malice").await;
    let size = 10 * LARGEST;
    let honest = framed(&vec![0; size]);
    let short = [framed(&[0; 1024]), vec![0; size]].concat();
    let bomb = gzip_bomb(1_000_000);
    let bomb = [&[1], &u32::try_from(bomb.len()).expect("small").to_be_bytes()[..], &bomb].concat();
    for (what, body, more, reason) in [
        ("10 MiB that say so", &honest, None, "MESSAGE_TOO_LARGE"),
        ("10 MiB that say to be 1 KiB", &short, None, "MESSAGE_TOO_LARGE"),
        ("a gzip bomb of 1 MB, 160 MB unpacked", &bomb, Some(("grpc-encoding", "gzip")), "COMPRESSION_UNKNOWN"),
    ] {
        siege
            .withstands(&format!("{what}, on 20 connections"), async {
                let mut pouring = Vec::new();
                for number in 0..20 {
                    // One caller alone has no room for so much at a time.
                    let mallory = siege.somebody(&format!("mallory-{number}"));
                    let head = call_with(FOUND, &mallory.identity, more.as_slice());
                    let wire = Wire::open(siege.address(), &[]).await;
                    wire.sends(&headers(1, false, &head)).await;
                    let body = body.clone();
                    pouring.push(tokio::spawn(async move {
                        wire.pours(1, &body, 16_384).await;
                        wire.sends(&data(1, true, &[])).await;
                        wire.until(|seen| seen.ended == 1 || seen.closed).await
                    }));
                }
                for poured in pouring {
                    let seen = poured.await.expect("no panic");
                    assert!(seen.ended == 1 && seen.headers == 1, "{seen:?}");
                }
                format!("refused: {reason}")
            })
            .await;
        let told = siege.server.log().iter().filter(|line| line.contains(reason)).count();
        assert!(told >= 20, "{told} of 20 were told {reason}");
    }
    siege
        .withstands("2,000 messages that say to be of 4 GiB", async {
            let wire = Wire::open(siege.address(), &[]).await;
            let head = call(FOUND, &mallory.identity);
            let lie = [0, 255, 255, 255, 255, 1, 2, 3];
            let seen =
                wire.asks(2_000, 50, |stream| [headers(stream, false, &head), data(stream, true, &lie)].concat());
            assert!(!seen.await.closed, "{:?}", wire.seen());
            wire.seen().told()
        })
        .await;
    siege.ends().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_depth_of_nesting_brings_down_any_rpc() {
    let siege = Siege::begin(&[]).await;
    let mallory = siege.somebody("mallory").founds("Malice").await;
    // A group of an unknown field, and messages in messages in fields that are messages: of the RPC's own, of google.protobuf.
    let groups = |count: usize| [vec![0x7b; count], vec![0x7c; count]].concat();
    let mut nested = Vec::new();
    for _ in 0..10_000 {
        let mut length = Vec::new();
        prost::encoding::encode_varint(nested.len() as u64, &mut length);
        nested = [&length[..], &nested].concat();
        nested.insert(0, 0x7a);
    }
    let mut bodies = vec![groups(10_000), vec![0x7b; 500_000], nested];
    for field in 1..=6u8 {
        let inner = groups(10_000);
        let mut body = vec![field << 3 | 2];
        prost::encoding::encode_varint(inner.len() as u64, &mut body);
        bodies.push([body, inner].concat());
    }
    let channel = siege.server.channel();
    siege
        .withstands("9 bodies that are 10,000 deep or deeper, to every RPC", async {
            for method in methods() {
                for body in &bodies {
                    let answered = raw::send(&channel, &method.path(), &mallory.identity, body).await;
                    if let Err(status) = answered.outcome {
                        let defects = [tonic::Code::Internal, tonic::Code::Unknown, tonic::Code::Unavailable];
                        assert!(!defects.contains(&status.code()), "{}: {status:?}", method.path());
                    }
                }
            }
            "INVALID_ARGUMENT, or skipped".into()
        })
        .await;
    drop(channel);
    siege.ends().await;
}

// === what needs no identity

#[tokio::test(flavor = "multi_thread")]
async fn health_and_reflection_hold_no_more_than_they_need() {
    let siege = Siege::begin(&[]).await;
    // A whole message but for its last byte: nobody reads it until it is there.
    let unfinished = &framed(&[&[0x0a][..], &[0xfb, 0xff, 0xbf, 1], &vec![b'x'; 3 * LARGEST]].concat())[..2 * LARGEST];
    for (what, path) in [("health", HEALTH), ("reflection", REFLECTION)] {
        siege
            .withstands(&format!("100 messages of 2 MiB to {what} that lack their end, of nobody"), async {
                let mut wires = Vec::new();
                for _ in 0..100 {
                    let wire = Wire::open(siege.address(), &[]).await;
                    wire.sends(&headers(1, false, &call(path, &nobody()))).await;
                    wire.pours(1, unfinished, 16_384).await;
                    wires.push(wire);
                }
                let refused = wires.iter().filter(|wire| wire.seen().ended == 1).count();
                format!("{refused} refused, of 100")
            })
            .await;
    }
    siege
        .withstands(
            "100 connections that ask reflection a hundred times for the largest file, and read nothing",
            async {
                let symbol = b"tenantry.v1.OrganizationService";
                let ask = [&[0x22, u8::try_from(symbol.len()).expect("short")][..], symbol].concat();
                let mut wires = Vec::new();
                for _ in 0..100 {
                    let wire = Wire::open(siege.address(), &[(setting::INITIAL_WINDOW_SIZE, 0)]).await;
                    wire.sends(&window_update(0, 1 << 30)).await;
                    let head = call(REFLECTION, &nobody());
                    wire.floods(streams(100).map(|stream| {
                        [headers(stream, false, &head), data(stream, false, &framed(&ask).repeat(5))].concat()
                    }))
                    .await;
                    wires.push(wire);
                }
                let mut refused = 0;
                for wire in &wires {
                    refused += wire.until(|seen| seen.headers >= 100 || seen.closed).await.ended;
                }
                format!("{refused} of 10,000 refused")
            },
        )
        .await;
    siege.ends().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_asks_reflection_nothing_keeps_its_place_for_a_moment() {
    let siege = Siege::begin(&[]).await;
    siege
        .withstands("40 streams to reflection on which nothing is asked", async {
            let wire = Wire::open(siege.address(), &[]).await;
            let head = call(REFLECTION, &nobody());
            wire.floods(streams(40).map(|stream| headers(stream, false, &head))).await;
            let refused = wire.until(|seen| seen.ended >= 8).await.ended;
            let began = tokio::time::Instant::now();
            let seen = wire.until(|seen| seen.ended == 40 || seen.closed).await;
            assert!(refused == 8 && !seen.closed, "{seen:?}");
            format!("{refused} refused, the others ended after {:.0} s", began.elapsed().as_secs_f64())
        })
        .await;
    let answered = raw::send(&siege.victim.channel, REFLECTION, &nobody(), &[0x3a, 1, b'*']).await;
    answered.outcome.expect("there are places again");
    siege.ends().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn health_and_reflection_blame_whoever_sends_nonsense() {
    let siege = Siege::begin(&[]).await;
    let channel = siege.server.channel();
    for path in [HEALTH, "/grpc.health.v1.Health/Watch"] {
        for body in [
            vec![],
            vec![0, 0, 0],
            vec![0, 0, 0, 0, 9, 1],
            vec![7, 0, 0, 0, 0],
            vec![1, 0, 0, 0, 0],
            framed(&[0xff; 40]),
        ] {
            let answered = raw::send_body(&channel, path, &nobody(), &[], body.clone()).await;
            if let Err(status) = answered.outcome {
                let defects = [tonic::Code::Internal, tonic::Code::Unknown];
                assert!(!defects.contains(&status.code()), "{path} {body:?}: {status:?}");
            }
        }
    }
    drop(channel);
    siege.ends().await;
}

// === more than there is room for

#[tokio::test(flavor = "multi_thread")]
async fn large_bodies_that_come_slowly_leave_room_for_the_others() {
    let siege = Siege::begin(&[]).await;
    let mallory = siege.somebody("mallory").founds("Malice").await;
    let most = founding(&"x".repeat(LARGEST - 8));
    let most = &most[..most.len() - 1];
    siege
        .withstands("one caller sends 80 messages of 1 MiB but for their last byte, for 5 s", async {
            let mut wires = Vec::new();
            for _ in 0..80 {
                let wire = Wire::open(siege.address(), &[]).await;
                wire.sends(&headers(1, false, &call(FOUND, &mallory.identity))).await;
                wire.pours(1, most, 16_384).await;
                wires.push(wire);
            }
            tokio::time::sleep(Duration::from_secs(5)).await;
            let refused = wires.iter().filter(|wire| wire.seen().ended == 1).count();
            format!("{refused} refused: OVERLOADED")
        })
        .await;
    siege.ends().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_connections_than_there_may_be_are_refused_and_those_that_there_are_stay() {
    let siege = Siege::begin(&["--connections", "1000"]).await;
    siege
        .withstands("3,000 connections that say nothing, where there may be 1,000", async {
            let mut idle = Vec::new();
            for _ in 0..3_000 {
                idle.push(TcpStream::connect(siege.address()).await.expect("a connection"));
            }
            until("all of them were looked at", async || siege.metric("connections_refused_total").await >= 2_000.0)
                .await;
            assert!(siege.metric("connections").await <= 1_000.0);
            // The silence of the others has an end.
            until("the silent are gone", async || siege.metric("connections").await <= 2.0).await;
            assert!(takes_connections(siege.address()).await);
            "2,000 closed at once, the others after 10 s".into()
        })
        .await;
    siege
        .withstands("HTTP/1.1, an upgrade to h2c, SSH and noise, 200 times each", async {
            let upgrade = "GET / HTTP/1.1\r\nhost: localhost\r\nconnection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\n\
                           http2-settings: AAMAAABkAAQAAP__\r\n\r\n";
            for says in [
                "GET / HTTP/1.1\r\nhost: localhost\r\n\r\n",
                upgrade,
                "SSH-2.0-OpenSSH_9.2\r\n .............",
                &"\u{fffd}".repeat(1000),
            ] {
                for _ in 0..200 {
                    let mut stream = TcpStream::connect(siege.address()).await.expect("a connection");
                    drop(stream.write_all(says.as_bytes()).await);
                    let mut heard = Vec::new();
                    drop(
                        tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut heard))
                            .await
                            .expect("closed"),
                    );
                    assert!(!heard.starts_with(b"HTTP/1"), "it speaks nothing but HTTP/2");
                }
            }
            "all closed".into()
        })
        .await;
    siege.ends().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_never_finish_tls_are_closed() {
    let authority = Authority::new();
    authority.writes_server();
    let (certificate, key) = (authority.path("server.crt"), authority.path("server.key"));
    let home = Home::new(Backend::Sqlite).await;
    let mut command = home.tenantry(&["--metrics-listen", "127.0.0.1:0"]);
    command.arg("--tls-certificate").arg(certificate).arg("--tls-key").arg(key);
    let siege = Siege::start_with(home, command, |server| authority.channel(server.address, &[])).await;
    siege
        .withstands("500 connections in the midst of TLS", async {
            let mut halves = Vec::new();
            for _ in 0..500 {
                let mut stream = TcpStream::connect(siege.address()).await.expect("a connection");
                stream.write_all(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03").await.expect("written");
                halves.push(stream);
            }
            until("all are there", async || siege.metric("connections").await >= 500.0).await;
            until("all are gone", async || siege.metric("connections").await <= 1.0).await;
            "all closed after 10 s".into()
        })
        .await;
    siege.ends().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_may_open_few_files_keeps_some_for_its_work() {
    let home = Home::new(Backend::Sqlite).await;
    let tenantry = home.tenantry(&["--metrics-listen", "127.0.0.1:0"]);
    let mut command = home.tenantry(&[]);
    let mut limited = std::process::Command::new("sh");
    limited.args(["-c", "ulimit -n 256; exec \"$0\" \"$@\""]).arg(tenantry.get_program()).args(tenantry.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => limited.env(name, value),
            None => limited.env_remove(name),
        };
    }
    limited.current_dir(home.directory.path());
    limited
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    command = limited;
    let siege = Siege::start(home, command).await;
    siege
        .withstands("600 connections to a server that may open 256 files", async {
            let mut open = Vec::new();
            for _ in 0..600 {
                // Where the machine takes no more of them, they wait.
                let connecting = Wire::open(siege.address(), &[]);
                let Ok(wire) = tokio::time::timeout(Duration::from_millis(500), connecting).await else { break };
                open.push(wire);
            }
            let metrics = tokio::time::timeout(Duration::from_secs(10), siege.metric("connections"));
            let taken = metrics.await.expect("whoever reads the metrics is heard");
            assert!(taken < 200.0, "{taken} connections");
            format!("{taken} taken")
        })
        .await;
    siege.ends().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_are_made_up_are_counted_as_one() {
    let siege = Siege::begin(&[]).await;
    let before = siege.metrics().await.lines().count();
    siege
        .withstands("5,000 methods and services that there are not", async {
            let wire = Wire::open(siege.address(), &[]).await;
            let seen = wire.asks(5_000, 50, |stream| {
                let path = match stream % 4 {
                    1 => format!("/tenantry.v1.BillingService/Made{stream}"),
                    _ => format!("/tenantry.v1.Made{stream}/Up"),
                };
                headers(stream, true, &call(&path, &nobody()))
            });
            assert!(!seen.await.closed, "{:?}", wire.seen());
            wire.seen().told()
        })
        .await;
    let told = siege.metrics().await;
    assert!(!told.contains("Made"), "{told}");
    let (grown, of_one) = (told.lines().count() - before, 16);
    // One of each code that there is for what there is not, and one reason.
    assert!(grown <= 3 * of_one, "{grown} lines more");
    siege.ends().await;
}
