//! Which requests of a device's own stand for those that it was given.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::RequestId;

/// For devices on other devices that answer a request by requests of their own: so that giving up the one gives up the others.
///
/// A request can have several, also through parts of a view that was split.
#[derive(Clone, Debug, Default)]
pub struct Substitutes(Arc<Mutex<HashMap<RequestId, Vec<RequestId>>>>);

impl Substitutes {
    /// `own` stands for `given`, until it is [removed](Self::remove).
    pub fn insert(&self, given: RequestId, own: RequestId) {
        self.lock().entry(given).or_default().push(own);
    }

    /// `own` was answered.
    pub fn remove(&self, given: RequestId, own: RequestId) {
        let mut all = self.lock();
        if let Some(own_of) = all.get_mut(&given) {
            own_of.retain(|one| *one != own);
            if own_of.is_empty() {
                all.remove(&given);
            }
        }
    }

    /// Calls `cancel` with all that stand for `given`.
    pub fn each(&self, given: RequestId, cancel: impl FnMut(RequestId)) {
        // Not under the lock: what is answered then is removed.
        let own = self.lock().get(&given).cloned().unwrap_or_default();
        own.into_iter().for_each(cancel);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<RequestId, Vec<RequestId>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
