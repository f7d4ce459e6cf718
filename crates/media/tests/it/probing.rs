//! Probing: what is refused and how, hostile names, and agreement with a plain decode.

use crate::clips::{self, Dir, PICTURE, TONE, decoded_times, make, probe, probe_with};
use splitreel_core::profile::SourceProfile;
use splitreel_core::source::{Container, IndexEvidence};
use splitreel_core::{FailureClass, MediaTime, Rational};
use splitreel_media::ProbeOptions;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

async fn refused(path: &Path, dir: &Dir) -> (String, String) {
    let failure = probe(path, dir.path()).await.unwrap_err();
    assert_eq!(failure.class, FailureClass::Source, "{failure:?}");
    (failure.code.to_string(), failure.message)
}

#[tokio::test]
async fn unusable_sources_are_refused_with_reasons() {
    let dir = Dir::new();
    let write = |name: &str, data: &[u8]| {
        let path = dir.file(name);
        std::fs::write(&path, data).unwrap();
        path
    };
    let whole = std::fs::read(clips::cfr_mp4(&dir)).unwrap();
    let cases = [
        (dir.file("nothing.mp4"), "not_found"),
        (dir.sub("folder"), "is_directory"),
        (write("empty.mp4", b""), "empty_file"),
        (write("notes.mp4", b"dear diary, no film today\n"), "not_media"),
        (write("noise.mkv", &[0x91; 5000]), "not_media"),
        // The moov stands at the end of this file.
        (write("cut.mp4", &whole[..whole.len() / 2]), "truncated"),
    ];
    for (path, code) in cases {
        let (found, message) = refused(&path, &dir).await;
        assert_eq!(found, code, "{message}");
        assert!(message.contains(path.file_name().unwrap().to_str().unwrap()), "{message}");
    }
}

#[tokio::test]
async fn playlists_are_refused_whatever_their_name() {
    let dir = Dir::new();
    let secret = clips::cfr_mp4(&dir);
    // Nobody may connect here: an accepted connection would show that the playlist was followed.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    let bodies = [
        format!("#EXTM3U\n#EXTINF:3,\nhttp://127.0.0.1:{port}/a.ts\n"),
        format!("#EXTM3U\n#EXTINF:3,\nfile://{}\n", secret.display()),
        format!("ffconcat version 1.0\nfile {}\n", secret.display()),
        format!("<?xml version=\"1.0\"?><MPD><BaseURL>http://127.0.0.1:{port}/</BaseURL></MPD>"),
    ];
    for body in bodies {
        let path = dir.file("film.mp4");
        std::fs::write(&path, &body).unwrap();
        assert_eq!(refused(&path, &dir).await.0, "is_playlist", "{body}");
    }
    assert_eq!(listener.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
}

#[tokio::test]
async fn hostile_names_are_only_names() {
    let dir = Dir::new();
    let source = clips::cfr_mp4(&dir);
    let names: [&[u8]; 6] =
        [b"-i", b"a %d%03d.mp4", b"line\nbreak.mp4", b"quote'\";|.mp4", b"http:x.mp4", b"bytes\xff\xfe.mp4"];
    for name in names {
        let path = dir.path().join(std::ffi::OsStr::from_bytes(name));
        std::fs::copy(&source, &path).unwrap();
        let info = probe(&path, &dir.sub("scratch")).await.unwrap().info;
        assert_eq!(info.video.unwrap().frames.pts.len(), 75);
    }
    assert_eq!(std::fs::read_dir(dir.file("scratch")).unwrap().count(), 0, "links are removed");
}

#[tokio::test]
async fn container_lists_agree_with_decoding() {
    let dir = Dir::new();
    let doubtless = ProbeOptions { scan_pixels: 0, mild_doubt_factor: 0, ..ProbeOptions::default() };
    let sources = [clips::cfr_mp4(&dir), clips::edited_mp4(&dir), clips::vfr_mkv(&dir)];
    for (path, evidence) in sources.iter().zip([IndexEvidence::Moov, IndexEvidence::Moov, IndexEvidence::PacketScan]) {
        let listed = probe_with(path, dir.path(), doubtless.clone()).await.unwrap().info.video.unwrap();
        let decoded = probe(path, dir.path()).await.unwrap().info.video.unwrap();
        assert_eq!((listed.frames.evidence, decoded.frames.evidence), (evidence, IndexEvidence::DecodeScan));
        assert_eq!(listed.frames.pts, decoded.frames.pts, "{}", path.display());
        assert_eq!(listed.frames.keyframes, decoded.frames.keyframes);
        assert_eq!(listed.frames.last_duration, decoded.frames.last_duration);
        assert!(listed.frames.is_seekable && decoded.frames.is_seekable);
        assert_eq!(decoded.frames.pts.iter().collect::<Vec<_>>(), decoded_times(path, decoded.stream));
    }
}

#[tokio::test]
async fn fragmented_files_and_transport_streams() {
    let dir = Dir::new();
    let path = dir.file("frag.mp4");
    make(&path, &format!("{PICTURE} -c:v libx264 -bf 2 -g 25 -movflags +frag_keyframe+empty_moov"));
    let info = probe(&path, dir.path()).await.unwrap().info;
    assert!(info.fragmented && info.container == Container::Mov);
    let video = info.video.unwrap();
    assert!(video.frames.is_seekable);
    assert_eq!((video.frames.pts.len(), video.frame_rate), (75, Rational::whole(25)));
    let info = probe(&clips::late_ts(&dir), dir.path()).await.unwrap().info;
    assert_eq!((info.container, info.demuxer.as_str()), (Container::MpegTs, "mpegts"));
    let video = info.video.unwrap();
    assert_eq!(video.frames.keyframes.len(), 4);
    assert!(video.frames.pts.first().unwrap() > 900_000);
    assert!(info.audio[0].first_pts > MediaTime::new(10, Rational::ONE));
}

/// Two programmes, each with a picture and a tone.
fn two_programmes(dir: &Dir) -> std::path::PathBuf {
    let path = dir.file("two-programmes.ts");
    make(
        &path,
        &format!(
            "{PICTURE} {TONE} -f lavfi -i smptebars=s=320x240:r=25:d=3 -f lavfi -i sine=880:r=48000:d=3 -map 0 -map 1 -map 2 \
             -map 3 -c:v libx264 -preset veryfast -c:a mp2 -program title=One:st=0:st=1 -program title=Two:st=2:st=3"
        ),
    );
    path
}

fn used(info: &splitreel_core::source::SourceInfo) -> (u32, Vec<u32>) {
    (info.video.as_ref().unwrap().stream, info.audio.iter().map(|track| track.stream).collect())
}

#[tokio::test]
async fn tracks_are_those_of_one_programme() {
    let dir = Dir::new();
    let path = two_programmes(&dir);
    let of = |programme: u32| ProbeOptions {
        source: SourceProfile { programme, ..SourceProfile::default() },
        ..ProbeOptions::default()
    };
    let largest = probe(&path, dir.path()).await.unwrap().info;
    assert_eq!(used(&largest), (2, vec![3]));
    let programme = largest.programme.unwrap();
    assert_eq!((programme.chosen.to_string(), programme.is_asked_for), ("2 (Two)".to_owned(), false));
    assert_eq!(programme.others.len(), 1);
    let reasons: Vec<_> = largest.unused.iter().map(|track| (track.stream, track.reason.as_str())).collect();
    assert_eq!(reasons, [(0, "it belongs to another programme"), (1, "it belongs to another programme")]);
    let asked = probe_with(&path, dir.path(), of(1)).await.unwrap().info;
    assert_eq!(used(&asked), (0, vec![1]));
    assert!(asked.programme.unwrap().is_asked_for);
    let failure = probe_with(&path, dir.path(), of(7)).await.unwrap_err();
    assert_eq!((failure.class, failure.code.as_str()), (FailureClass::Source, "no_programme"));
    assert!(failure.message.contains("it has 1 (One), 2 (Two)"), "{}", failure.message);
}

#[tokio::test]
async fn the_default_picture_is_taken_wherever_it_stands() {
    let dir = Dir::new();
    let path = dir.file("ladder.mp4");
    make(
        &path,
        &format!(
            "{PICTURE} {PICTURE} {TONE} -map 0 -map 1 -map 2 -filter:v:0 scale=80:60 -c:v libx264 -preset veryfast -c:a aac \
             -disposition:v:0 0 -disposition:v:1 default"
        ),
    );
    assert_eq!(used(&probe(&path, dir.path()).await.unwrap().info), (1, vec![2]));
}

#[tokio::test]
async fn tracks_are_described() {
    let dir = Dir::new();
    let path = dir.file("tracks.mkv");
    make(
        &path,
        &format!(
            "{PICTURE} {TONE} {TONE} {PICTURE} -map 0 -map 1 -map 2 -map 3 -c:v libx264 -c:a aac -metadata:s:a:0 language=deu \
             -metadata:s:a:0 title=Ton -disposition:a:1 default -disposition:a:0 0 -aspect 16:9"
        ),
    );
    let info = probe(&path, dir.path()).await.unwrap().info;
    let video = info.video.as_ref().unwrap();
    assert_eq!((video.stream, video.codec.as_str(), video.width, video.height), (0, "h264", 160, 120));
    assert_eq!(
        (video.sar, video.bit_depth, video.rotation, video.scan.field_order()),
        (Rational::new(4, 3).unwrap(), 8, 0, None)
    );
    assert_eq!(info.audio.len(), 2);
    assert_eq!(
        (info.audio[0].language.as_str(), info.audio[0].title.as_str(), info.audio[0].is_default),
        ("deu", "Ton", false)
    );
    assert_eq!((info.audio[1].language.as_str(), info.audio[1].is_default, info.audio[1].channels), ("und", true, 1));
    assert_eq!(info.unused.len(), 1);
    assert_eq!((info.unused[0].stream, info.unused[0].kind.as_str()), (3, "video"));
}
