//! Planting bugs of the engine's list; without the feature `planted-bugs` there are none.

/// Whether there is a bug of that name to be planted.
#[must_use]
pub fn exists(name: &str) -> bool {
    cfg!(feature = "planted-bugs") && tidelog::planted::Bug::named(name).is_some()
}

#[cfg(feature = "planted-bugs")]
mod planned {
    use std::sync::Mutex;

    use tidelog::planted::Bug;

    pub(super) static PLANNED: Mutex<Option<Bug>> = Mutex::new(None);
}

/// Has every simulation that this process runs from now on have that bug.
pub fn plan(name: Option<&str>) {
    #[cfg(feature = "planted-bugs")]
    if let Ok(mut planned) = planned::PLANNED.lock() {
        *planned = name.and_then(tidelog::planted::Bug::named);
    }
    #[cfg(not(feature = "planted-bugs"))]
    assert!(name.is_none(), "this was built without the feature planted-bugs");
}

/// Plants in this thread what was planned.
pub fn plant() {
    #[cfg(feature = "planted-bugs")]
    if let Ok(planned) = planned::PLANNED.lock() {
        tidelog::planted::plant(*planned);
    }
}
