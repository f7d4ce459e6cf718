//! What pictures show: frames of the output held against frames of the source, both shrunk to the same small size. Pure.
//!
//! Two comparisons, each with its own limits. The pictures that the encoder is given differ from the source's by scaling
//! only, so they are held closely, every one of them. Pictures decoded from the output carry the encoder's losses too.

use serde::{Deserialize, Serialize};

/// Size of a shrunk picture in pixels.
pub const WIDTH: usize = 48;
/// Size of a shrunk picture in pixels.
pub const HEIGHT: usize = 27;
/// Bytes of a shrunk picture: red, green and blue of each pixel, rows from the top.
pub const FRAME_BYTES: usize = WIDTH * HEIGHT * 3;

/// Decibels that stand for equal pictures.
const EQUAL_DB: f64 = 99.0;

/// Limits of a comparison.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Lowest PSNR of a frame in decibels, luma and chroma alike.
    pub worst_db: f64,
    /// Lowest mean PSNR of a segment's frames in decibels.
    pub mean_db: f64,
    /// Limits for the colours of pictures with many levels.
    pub rich: ColourLimits,
    /// Limits for the colours of plain pictures: coarse quantisation moves their few colours alike, which looks like a
    /// conversion.
    pub plain: ColourLimits,
}

/// Limits of the differences that all pictures of a segment have in common.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ColourLimits {
    /// Largest difference of a mean colour component, of 255.
    pub offset: f64,
    /// Mean squared error up to which no conversion of colours is looked for; rounding makes a part of it.
    pub unseen: f64,
    /// How many times closer a conversion may bring the pictures. Honest encodes reach 1.6, those of plain pictures 4.3.
    pub ratio: f64,
}

const CLOSE: ColourLimits = ColourLimits { offset: 2.5, unseen: 1.5, ratio: 2.0 };

/// Limits for pictures that an encoder is given.
pub const INPUT: Limits = Limits { worst_db: 24.0, mean_db: 27.0, rich: CLOSE, plain: CLOSE };
/// Limits for pictures decoded from the output.
pub const OUTPUT: Limits = Limits {
    worst_db: 16.0,
    mean_db: 18.0,
    rich: ColourLimits { offset: 4.0, ..CLOSE },
    plain: ColourLimits { offset: 7.0, unseen: 6.0, ratio: 6.0 },
};

/// Result of a comparison, in hundredths so that it is exact in every format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Likeness {
    /// Frames compared.
    pub frames: u64,
    /// Lowest PSNR of a frame, luma or chroma, hundredths of a decibel; 9900 for equal pictures.
    pub worst_centi_db: u32,
    /// Its number among the frames compared, from 0.
    pub worst_frame: u64,
    /// Sum over the frames of their PSNR, hundredths of a decibel.
    pub sum_centi_db: u64,
}

/// What was compared of one rendition's part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    /// Every picture that the encoder was given against the source's.
    pub input: Likeness,
    /// Pictures decoded from the output against the source's: all of them, or the keyframes.
    pub output: Likeness,
}

impl Likeness {
    /// Both together; the frames of `other` follow.
    pub fn join(self, other: Likeness) -> Likeness {
        let (worst_centi_db, worst_frame) = if other.worst_centi_db < self.worst_centi_db {
            (other.worst_centi_db, self.frames.saturating_add(other.worst_frame))
        } else {
            (self.worst_centi_db, self.worst_frame)
        };
        Likeness {
            frames: self.frames.saturating_add(other.frames),
            worst_centi_db,
            worst_frame,
            sum_centi_db: self.sum_centi_db.saturating_add(other.sum_centi_db),
        }
    }

    /// Mean PSNR of the frames, hundredths of a decibel.
    pub fn mean_centi_db(&self) -> u64 {
        self.sum_centi_db.checked_div(self.frames).unwrap_or(0)
    }
}

impl Content {
    /// Both together; the frames of `other` follow.
    pub fn join(self, other: Content) -> Content {
        Content { input: self.input.join(other.input), output: self.output.join(other.output) }
    }
}

/// Why pictures do not show what the source shows.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum Unlike {
    /// Another number of pictures.
    #[error("{found} pictures, expected {wanted}")]
    Count {
        /// Pictures found.
        found: u64,
        /// Pictures of the source.
        wanted: u64,
    },
    /// One picture shows something else.
    #[error("frame {frame} does not show the source's picture: {db:.1} dB, at least {limit} are expected")]
    Frame {
        /// Number of the frame, from 0.
        frame: u64,
        /// PSNR in decibels.
        db: f64,
        /// The limit in decibels.
        limit: f64,
    },
    /// The pictures differ on the whole.
    #[error("the pictures differ from the source's: {db:.1} dB on average, at least {limit} are expected")]
    Mean {
        /// Mean PSNR in decibels.
        db: f64,
        /// The limit in decibels.
        limit: f64,
    },
    /// One change of colours explains most of the differences.
    #[error(
        "one conversion of colours would bring the pictures {ratio:.1} times closer to the source's: range or matrix is wrong, or its tag"
    )]
    Colours {
        /// Squared error without to that with the best conversion.
        ratio: f64,
    },
    /// A mean changed.
    #[error("{what} differs from the source's by {levels:.1} of 255 on average")]
    Offset {
        /// `brightness` or `colour`.
        what: &'static str,
        /// Output minus source.
        levels: f64,
    },
    /// The pictures fit the source's neighbours better.
    #[error("each picture shows the source's {neighbour} frame")]
    Late {
        /// `previous` or `next`.
        neighbour: &'static str,
    },
}

/// Sums over pixels, for the best affine map from the luma and chroma found to the source's.
#[derive(Clone, Copy, Debug, Default)]
struct Relation {
    n: f64,
    source: [f64; 3],
    found: [f64; 3],
    /// Squares of the source's components.
    source_squares: [f64; 3],
    /// Products of components found, row by row.
    found_products: [[f64; 3]; 3],
    /// Products of a component of the source, one row each, and the components found.
    products: [[f64; 3]; 3],
    /// Squared differences.
    error: f64,
}

impl Relation {
    fn add(&mut self, source: [f64; 3], found: [f64; 3]) {
        self.n += 1.0;
        add(&mut self.source, source, 1.0);
        add(&mut self.found, found, 1.0);
        add(&mut self.source_squares, source.map(|x| x * x), 1.0);
        self.found_products.iter_mut().zip(found).for_each(|(row, y)| add(row, found, y));
        self.products.iter_mut().zip(source).for_each(|(row, x)| add(row, found, x));
        self.error += source.iter().zip(found).map(|(x, y)| (x - y).powi(2)).sum::<f64>();
    }

    /// Mean differences of the components.
    fn offsets(&self) -> [f64; 3] {
        let n = self.n.max(1.0);
        let mut offsets = self.found.map(|sum| sum / n);
        add(&mut offsets, self.source.map(|sum| sum / n), -1.0);
        offsets
    }

    /// Variance of the luma found.
    fn luma_variance(&self) -> f64 {
        let (n, [sum, ..], [[square, ..], ..]) = (self.n.max(1.0), self.found, self.found_products);
        (square / n - (sum / n).powi(2)).max(0.0)
    }

    /// Mean squared difference of a component.
    fn error(&self) -> f64 {
        self.error / self.n.max(1.0) / 3.0
    }

    /// What is left of it after the best affine map.
    fn error_after_conversion(&self) -> f64 {
        /// Keeps the equations solvable where a component hardly varies; squared levels.
        const RIDGE: f64 = 0.5;
        let n = self.n.max(1.0);
        let mean = self.found.map(|sum| sum / n);
        let centred = |row: [f64; 3], other: f64| {
            let mut row = row.map(|sum| sum / n);
            add(&mut row, mean, -other / n);
            row
        };
        let ([p, q, r], [x, y, z]) = (self.found_products, self.found);
        let [[a, b, c], [d, e, f], [g, h, i]] = [centred(p, x), centred(q, y), centred(r, z)];
        let found = [[a + RIDGE, b, c], [d, e + RIDGE, f], [g, h, i + RIDGE]];
        let sources = self.products.iter().zip(self.source).zip(self.source_squares);
        let left = sources.map(|((products, sum), square)| {
            let shared = centred(*products, sum);
            let explained: f64 = solve(found, shared).iter().zip(shared).map(|(a, b)| a * b).sum();
            (square / n - (sum / n).powi(2) - explained).max(0.0)
        });
        left.sum::<f64>() / 3.0
    }
}

fn add(sum: &mut [f64; 3], other: [f64; 3], factor: f64) {
    sum.iter_mut().zip(other).for_each(|(sum, value)| *sum += value * factor);
}

/// Solves a symmetric system of three equations by Cramer's rule. A ridge keeps its determinant above 0.
fn solve(m: [[f64; 3]; 3], wanted: [f64; 3]) -> [f64; 3] {
    let [first, second, third] = m;
    let determinant = det([first, second, third]);
    // The matrix is symmetric: rows stand for columns.
    [det([wanted, second, third]), det([first, wanted, third]), det([first, second, wanted])].map(|d| d / determinant)
}

fn det([[a, b, c], [d, e, f], [g, h, i]]: [[f64; 3]; 3]) -> f64 {
    a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)
}

/// A comparison of two sequences of shrunk pictures.
#[derive(Clone, Debug)]
pub struct Comparison {
    frames: u64,
    worst: (f64, u64),
    sum_db: f64,
    relation: Relation,
    /// Squared errors against the source's picture, the one before, and the one behind.
    at_time: f64,
    at_previous: f64,
    at_next: f64,
    /// The pair before, where the pictures follow each other.
    before: Option<(Vec<u8>, Vec<u8>)>,
    is_consecutive: bool,
}

impl Comparison {
    /// `is_consecutive`: every picture of the source is compared, so that its neighbours are known.
    pub fn new(is_consecutive: bool) -> Self {
        Comparison {
            frames: 0,
            worst: (EQUAL_DB, 0),
            sum_db: 0.0,
            relation: Relation::default(),
            at_time: 0.0,
            at_previous: 0.0,
            at_next: 0.0,
            before: None,
            is_consecutive,
        }
    }
}

/// Luma and the two colour differences of a pixel, ITU-R BT.709, full range.
fn luma_chroma(pixel: &[u8]) -> [f64; 3] {
    let [r, g, b] = match pixel {
        [r, g, b] => [f64::from(*r), f64::from(*g), f64::from(*b)],
        _ => [0.0; 3],
    };
    let y = 0.2126 * r + 0.7152 * g + 0.0722 * b;
    [y, (b - y) / 1.8556, (r - y) / 1.5748]
}

/// Mean squared error over all components.
fn distance(a: &[u8], b: &[u8]) -> f64 {
    let sum: f64 = a.iter().zip(b).map(|(a, b)| f64::from(a.abs_diff(*b)).powi(2)).sum();
    sum / a.len().max(1) as f64
}

impl Comparison {
    /// Compares the next pair of pictures, [`FRAME_BYTES`] each.
    pub fn add(&mut self, source: &[u8], found: &[u8]) {
        let (mut luma, mut chroma, mut n) = (0.0, 0.0, 0.0);
        for (a, b) in source.chunks_exact(3).zip(found.chunks_exact(3)) {
            let (a, b) = (luma_chroma(a), luma_chroma(b));
            let ([ya, ua, va], [yb, ub, vb]) = (a, b);
            luma += (ya - yb).powi(2);
            chroma += ((ua - ub).powi(2) + (va - vb).powi(2)) / 2.0;
            n += 1.0;
            self.relation.add(a, b);
        }
        let db = decibels(luma / f64::max(n, 1.0)).min(decibels(chroma / f64::max(n, 1.0)));
        if db < self.worst.0 {
            self.worst = (db, self.frames);
        }
        self.sum_db += db;
        self.frames += 1;
        if self.is_consecutive {
            self.add_neighbours(source, found);
        }
    }

    fn add_neighbours(&mut self, source: &[u8], found: &[u8]) {
        if let Some((source_before, found_before)) = &self.before {
            // Both pairs at their own time, and each picture found against the other's source.
            self.at_time += (distance(source, found) + distance(source_before, found_before)) / 2.0;
            self.at_previous += distance(source_before, found);
            self.at_next += distance(source, found_before);
        }
        self.before = Some((source.to_vec(), found.to_vec()));
    }

    fn mean(&self) -> f64 {
        if self.frames == 0 { EQUAL_DB } else { self.sum_db / self.frames as f64 }
    }

    /// The result.
    ///
    /// # Errors
    /// The first limit that is not kept.
    pub fn finish(&self, limits: &Limits) -> Result<Likeness, Unlike> {
        let (db, frame) = self.worst;
        if db < limits.worst_db {
            return Err(Unlike::Frame { frame, db, limit: limits.worst_db });
        }
        if self.mean() < limits.mean_db {
            return Err(Unlike::Mean { db: self.mean(), limit: limits.mean_db });
        }
        self.check_times()?;
        self.check_colours(limits)?;
        let centi = |db: f64| (db * 100.0).round().max(0.0);
        Ok(Likeness {
            frames: self.frames,
            worst_centi_db: centi(db) as u32,
            worst_frame: frame,
            sum_centi_db: centi(self.sum_db) as u64,
        })
    }

    fn check_colours(&self, limits: &Limits) -> Result<(), Unlike> {
        /// Squared error that rounding leaves behind any conversion.
        const LEFT: f64 = 0.3;
        /// Variance of the luma of pictures with many levels, in which errors of quantisation do not add up.
        const RICH: f64 = 2_000.0;
        let is_rich = self.relation.luma_variance() >= RICH;
        let limits = if is_rich { limits.rich } else { limits.plain };
        let ratio = self.relation.error() / self.relation.error_after_conversion().max(LEFT);
        if self.relation.error() > limits.unseen && ratio > limits.ratio {
            return Err(Unlike::Colours { ratio });
        }
        let [luma, blue, red] = self.relation.offsets();
        for (what, levels) in [("brightness", luma), ("colour", blue), ("colour", red)] {
            if levels.abs() > limits.offset {
                return Err(Unlike::Offset { what, levels });
            }
        }
        Ok(())
    }

    fn check_times(&self) -> Result<(), Unlike> {
        /// How much closer a neighbour must be.
        const CLOSER: f64 = 3.0;
        for (neighbour, error) in [("previous", self.at_previous), ("next", self.at_next)] {
            if error * CLOSER < self.at_time {
                return Err(Unlike::Late { neighbour });
            }
        }
        Ok(())
    }
}

/// PSNR of a mean squared error of 8-bit samples.
fn decibels(error: f64) -> f64 {
    if error <= 0.0 { EQUAL_DB } else { (10.0 * (255.0 * 255.0 / error).log10()).min(EQUAL_DB) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A picture with a ramp of greys and a corner of colour, shifted by `at` pixels.
    fn picture(at: usize) -> Vec<u8> {
        let pixel = |n: usize| {
            let (x, y) = ((n % WIDTH + at) % WIDTH, n / WIDTH);
            let grey = (x * 255 / WIDTH) as u8;
            if x < 12 && y < 9 { [200, 40, 60] } else { [grey, grey, grey] }
        };
        (0..WIDTH * HEIGHT).flat_map(pixel).collect()
    }

    fn compare(found: impl Fn(u8) -> u8, limits: &Limits) -> Result<Likeness, Unlike> {
        let source = picture(0);
        let found: Vec<u8> = source.iter().map(|v| found(*v)).collect();
        let mut comparison = Comparison::new(true);
        comparison.add(&source, &found);
        comparison.finish(limits)
    }

    #[test]
    fn equal_pictures_are_alike() {
        let likeness = compare(|v| v, &INPUT).unwrap();
        assert_eq!((likeness.frames, likeness.worst_centi_db, likeness.mean_centi_db()), (1, 9900, 9900));
    }

    #[test]
    fn full_range_samples_under_a_limited_tag_are_found() {
        let stretched = |v: u8| ((f64::from(v) - 16.0) * 255.0 / 219.0).clamp(0.0, 255.0) as u8;
        let squeezed = |v: u8| (f64::from(v) * 219.0 / 255.0 + 16.0) as u8;
        for limits in [INPUT, OUTPUT] {
            assert!(compare(stretched, &limits).is_err());
            assert!(compare(squeezed, &limits).is_err());
        }
    }

    #[test]
    fn one_wrong_picture_among_many_is_named() {
        let mut comparison = Comparison::new(true);
        for number in 0..200 {
            let source = picture(number % WIDTH);
            let found = if number == 117 { picture((number + 20) % WIDTH) } else { source.clone() };
            comparison.add(&source, &found);
        }
        assert!(matches!(comparison.finish(&OUTPUT), Err(Unlike::Frame { frame: 117, .. })));
    }

    #[test]
    fn pictures_one_frame_late_or_early_are_found_though_they_hardly_differ() {
        // A faint texture that moves by a pixel in each frame.
        let slow = |at: usize| -> Vec<u8> {
            let level =
                |n: usize| (120 + (n % WIDTH + at).wrapping_mul(2_654_435_761) / 65_536 % 17 + n / WIDTH % 5) as u8;
            (0..WIDTH * HEIGHT).flat_map(|n| [level(n); 3]).collect()
        };
        for (shift, neighbour) in [(1, "next"), (-1, "previous")] {
            let mut comparison = Comparison::new(true);
            for number in 1..30i32 {
                comparison.add(&slow(number as usize), &slow((number + shift) as usize));
            }
            assert_eq!(comparison.finish(&OUTPUT), Err(Unlike::Late { neighbour }));
        }
        let mut still = Comparison::new(true);
        (0..30).for_each(|_| still.add(&slow(5), &slow(5)));
        assert!(still.finish(&INPUT).is_ok(), "neighbours of a still picture are as close");
    }

    #[test]
    fn a_wrong_matrix_is_found_in_colours_that_hardly_differ() {
        // Pale colours: BT.709 samples shown as BT.601.
        let pale = |n: usize| [110 + (n * 7 % 43) as u8, 108 + (n * 11 % 39) as u8, 102 + (n * 13 % 59) as u8];
        let source: Vec<u8> = (0..WIDTH * HEIGHT).flat_map(pale).collect();
        let shown = source.chunks_exact(3).flat_map(|pixel| {
            let [y, u, v] = luma_chroma(pixel);
            let (r, b) = (y + 1.402 * v, y + 1.772 * u);
            let g = y - 0.344 * u - 0.714 * v;
            [r, g, b].map(|v| v.round() as u8)
        });
        let mut comparison = Comparison::new(true);
        comparison.add(&source, &shown.collect::<Vec<u8>>());
        assert!(comparison.mean() > 34.0, "{}", comparison.mean());
        assert!(comparison.finish(&INPUT).is_err());
    }

    #[test]
    fn colours_alone_can_differ() {
        let source = picture(0);
        let grey: Vec<u8> = source
            .chunks_exact(3)
            .flat_map(|pixel| {
                let [y, ..] = luma_chroma(pixel);
                [y.round() as u8; 3]
            })
            .collect();
        let mut comparison = Comparison::new(true);
        comparison.add(&source, &grey);
        assert!(comparison.finish(&INPUT).is_err());
    }

    proptest! {
        #[test]
        fn small_errors_are_let_through(errors in prop::collection::vec(-3i16..=3, FRAME_BYTES)) {
            let source = picture(3);
            let found: Vec<u8> = source.iter().zip(&errors).map(|(v, e)| (i16::from(*v) + e).clamp(0, 255) as u8).collect();
            let mut comparison = Comparison::new(true);
            comparison.add(&source, &found);
            prop_assert!(comparison.finish(&INPUT).is_ok());
        }

        #[test]
        fn joined_results_do_not_depend_on_the_grouping(parts in prop::collection::vec((1u64..100, 2000u32..9900), 3)) {
            let of = |(frames, worst_centi_db): &(u64, u32)| Likeness {
                frames: *frames,
                worst_centi_db: *worst_centi_db,
                worst_frame: frames - 1,
                sum_centi_db: frames * 4000,
            };
            let parts: Vec<Likeness> = parts.iter().map(of).collect();
            let right = parts[0].join(parts[1].join(parts[2]));
            prop_assert_eq!(parts[0].join(parts[1]).join(parts[2]), right);
            prop_assert_eq!(right.mean_centi_db(), 4000);
        }
    }
}
