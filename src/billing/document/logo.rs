//! The seller's logo: checked once, when the server starts, rather than with the first invoice.

use std::fmt;

use krilla::image::Image;

use super::paint;

/// The largest file that is taken, in bytes: every PDF carries it.
const LARGEST_FILE: usize = 1 << 20;
/// The longest side that is taken, in pixels: four times what the finest printers show at the size that a logo has on a page.
const LONGEST_SIDE: u32 = 4_096;

/// A picture in PNG or JPEG that is known to be drawable.
#[derive(Clone)]
pub struct Logo(Image);

/// Why a picture cannot be a logo.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogoError {
    /// It has too many bytes.
    #[error("a logo is at most {LARGEST_FILE} bytes")]
    Heavy,
    /// It has too many pixels, or none.
    #[error("a logo is at most {LONGEST_SIDE} pixels wide and high, and has at least one")]
    Large,
    /// It is in neither format.
    #[error("a logo is a PNG or a JPEG")]
    Format,
    /// It breaks off, is damaged, or is made for printing presses (CMYK).
    #[error("a logo must be a whole picture in grey or RGB: {0}")]
    Undrawable(String),
}

impl Logo {
    /// Reads a PNG or a JPEG and draws it once, to be sure that it can be.
    ///
    /// # Errors
    ///
    /// When it cannot be drawn, or is larger than an invoice should be.
    pub fn parse(bytes: Vec<u8>) -> Result<Self, LogoError> {
        if bytes.len() > LARGEST_FILE {
            return Err(LogoError::Heavy);
        }
        let image = if bytes.starts_with(b"\x89PNG\r\n\x1a\n") {
            Image::from_png(bytes.into(), false)
        } else if bytes.starts_with(b"\xff\xd8\xff") {
            Image::from_jpeg(bytes.into(), false)
        } else {
            return Err(LogoError::Format);
        }
        .map_err(LogoError::Undrawable)?;
        let (width, height) = image.size();
        if width.min(height) == 0 || width.max(height) > LONGEST_SIDE {
            return Err(LogoError::Large);
        }
        let logo = Self(image);
        paint::proof(&logo).map_err(|error| LogoError::Undrawable(format!("{error:?}")))?;
        Ok(logo)
    }

    pub(super) fn image(&self) -> Image {
        self.0.clone()
    }

    /// The largest size in points that keeps its proportions within a box.
    pub(super) fn within(&self, width: f32, height: f32) -> (f32, f32) {
        let (wide, high) = self.0.size();
        let side = |pixels: u32| f32::from(u16::try_from(pixels).unwrap_or(u16::MAX));
        let scale = (width / side(wide)).min(height / side(high));
        (side(wide) * scale, side(high) * scale)
    }
}

impl fmt::Debug for Logo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (width, height) = self.0.size();
        write!(f, "Logo({width}×{height})")
    }
}
