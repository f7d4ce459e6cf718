//! Pixel formats that encoders take. Pure.

/// Formats of an encoder: sub-samplings by ffmpeg's names, bit depths, kinds beside luma and chroma.
struct Taken {
    subsamplings: &'static [&'static str],
    depths: &'static [u32],
    gray: bool,
    rgb: bool,
}

fn taken(encoder: &str) -> Taken {
    const ALL: &[&str] = &["420", "422", "444"];
    match encoder {
        "libx264" => Taken { subsamplings: ALL, depths: &[8, 10], gray: true, rgb: false },
        "libx265" => Taken { subsamplings: ALL, depths: &[8, 10, 12], gray: true, rgb: true },
        "libvpx-vp9" => {
            Taken { subsamplings: &["420", "422", "440", "444"], depths: &[8, 10, 12], gray: false, rgb: true }
        }
        "libaom-av1" => Taken { subsamplings: ALL, depths: &[8, 10, 12], gray: false, rgb: true },
        _ => Taken { subsamplings: &["420"], depths: &[8, 10], gray: false, rgb: false },
    }
}

/// The format that carries most of `pix_fmt` in an encoder: the same where the encoder takes it, else the nearest that
/// holds more, else the richest. Alpha is not carried.
pub(super) fn carried(pix_fmt: &str, bit_depth: u8, is_rgb: bool, encoder: &str) -> String {
    let taken = taken(encoder);
    let wanted = u32::from(bit_depth);
    let depth = taken.depths.iter().copied().find(|depth| *depth >= wanted).or(taken.depths.last().copied());
    let suffix = match depth {
        Some(depth) if depth > 8 => format!("{depth}le"),
        _ => String::new(),
    };
    if is_rgb && taken.rgb {
        return format!("gbrp{suffix}");
    }
    if pix_fmt.starts_with("gray") && taken.gray {
        return format!("gray{suffix}");
    }
    let wanted = if is_rgb { "444" } else { subsampling(pix_fmt) };
    let richer: &[&str] = match wanted {
        "420" => &["420", "422", "444"],
        "422" => &["422", "444", "420"],
        "440" => &["440", "444", "420"],
        _ => &["444", "422", "420"],
    };
    let found = richer.iter().find(|name| taken.subsamplings.contains(name)).unwrap_or(&"420");
    format!("yuv{found}p{suffix}")
}

/// Sub-sampling of chroma by the format's name; the next richer one where no encoder has it.
fn subsampling(pix_fmt: &str) -> &'static str {
    let has = |stems: &[&str]| stems.iter().any(|stem| pix_fmt.contains(stem));
    if has(&["444", "nv24", "nv42", "p41", "ayuv", "vuy", "xv3"]) {
        "444"
    } else if has(&["440"]) {
        "440"
    } else if has(&["422", "411", "nv16", "nv20", "p21", "y21", "yuv2"]) {
        "422"
    } else {
        "420"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_format_that_the_encoder_takes_stays() {
        for (format, depth) in [("yuv420p", 8), ("yuv422p", 8), ("yuv444p10le", 10), ("gray", 8)] {
            assert_eq!(carried(format, depth, false, "libx264"), format);
        }
        assert_eq!(carried("gbrp", 8, true, "libx265"), "gbrp");
        assert_eq!(carried("yuv440p", 8, false, "libvpx-vp9"), "yuv440p");
    }

    #[test]
    fn other_formats_become_the_nearest_that_holds_more() {
        assert_eq!(carried("yuvj420p", 8, false, "libx264"), "yuv420p");
        assert_eq!(carried("nv12", 8, false, "libx264"), "yuv420p");
        assert_eq!(carried("p010le", 10, false, "libx264"), "yuv420p10le");
        assert_eq!(carried("yuv411p", 8, false, "libx264"), "yuv422p");
        assert_eq!(carried("yuva444p12le", 12, false, "libx264"), "yuv444p10le");
        assert_eq!(carried("bgr0", 8, true, "libx264"), "yuv444p");
        assert_eq!(carried("yuv422p10le", 10, false, "libsvtav1"), "yuv420p10le");
        assert_eq!(carried("gray12le", 12, false, "libvpx-vp9"), "yuv420p12le");
    }
}
