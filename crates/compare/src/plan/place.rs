//! A place on an experiment's axis, and how it is labelled.

use std::{borrow::Cow, fmt};

use indicatif::HumanCount;
use serde::{Deserialize, Serialize};

/// A place on an experiment's axis: on which of its curves, and where.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Place {
    /// The curve; empty where the experiment has only one.
    pub variant: Cow<'static, str>,
    /// Where on the axis.
    #[serde(rename = "point")]
    pub x: u32,
}

impl Place {
    pub const fn new(variant: &'static str, x: u32) -> Place {
        Place { variant: Cow::Borrowed(variant), x }
    }

    /// As a part of names of files and elements: `10-active-1000`.
    pub fn slug(&self) -> String {
        match &*self.variant {
            "" => self.x.to_string(),
            variant => format!("{}-{}", variant.replace(' ', "-"), self.x),
        }
    }
}

/// Its label where the axis is named beside it: `10 active, 1,000`.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let x = HumanCount(self.x.into());
        match &*self.variant {
            "" => write!(f, "{x}"),
            variant => write!(f, "{variant}, {x}"),
        }
    }
}
