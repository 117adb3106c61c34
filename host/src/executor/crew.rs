//! The threads of a host: workers run tasks, drivers poll the drivers of devices.
//!
//! A thread that does not come back from a plugin is lost: another thread takes its place, and the lost thread ends when it comes
//! back.
//!
//! ```text
//!  worker ──► task ──► plugin                 comes back: goes on
//!                        └─ not for a while:  lost; a new worker goes on with the other tasks
//! ```

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use async_channel::{Receiver, Sender};
use async_executor::Executor;
use pactio_sdk::io::give_way_here;

use super::driver::Duty;
use super::local::block_on;
use super::posts::{self, Post};
use crate::gauges::{LOST, THREADS, Taken};
use crate::{Error, ErrorKind};

/// Most threads of a host that may be lost at a time.
const MAX_LOST: usize = 64;

/// The work of a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Worker,
    Driver,
}

/// See the [module](self).
pub(super) struct Crew {
    tasks: Arc<Executor<'static>>,
    /// The drivers that no other thread is about to poll.
    to_drive: Receiver<Duty>,
    members: Mutex<Members>,
}

#[derive(Default)]
struct Members {
    /// The number of the next thread.
    next: u64,
    all: Vec<Member>,
    /// Each thread has a clone, and drops it at its end. `None` when the host has ended.
    lives: Option<mpsc::Sender<()>>,
    /// The record that the bound on lost threads was reached has been written.
    told: bool,
}

struct Member {
    number: u64,
    role: Role,
    /// Set by the thread when it starts.
    post: Option<Arc<Post>>,
    /// Dropping the sender ends the thread when it comes back. `None` if another thread has taken its place, or the host has
    /// ended.
    stop: Option<Sender<()>>,
    _counted: Option<Taken>,
    /// Counts the thread as lost.
    lost: Option<Taken>,
}

impl Crew {
    pub(super) fn new(tasks: Arc<Executor<'static>>, to_drive: Receiver<Duty>) -> (Arc<Self>, Lives) {
        let (lives, ended) = mpsc::channel();
        let members = Members { lives: Some(lives), ..Members::default() };
        (Arc::new(Self { tasks, to_drive, members: Mutex::new(members) }), Lives(ended))
    }

    fn members(&self) -> MutexGuard<'_, Members> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a thread with this role, which is listed as a member until it ends. If the host has ended, nothing starts.
    pub(super) fn start(self: &Arc<Self>, role: Role) -> Result<(), Error> {
        let mut members = self.members();
        // The thread keeps this clone of the sender until its end. The host has ended if there is none.
        let Some(lives) = members.lives.clone() else { return Ok(()) };
        let number = members.next;
        members.next += 1;
        let (stop, stopped) = async_channel::bounded(1);
        // The member is listed before its thread starts, so that `end` stops the thread in any case.
        members.all.push(Member {
            number,
            role,
            post: None,
            stop: Some(stop),
            _counted: THREADS.take(1),
            lost: None,
        });
        drop(members);
        let this = self.clone();
        let name = match role {
            Role::Worker => format!("pactio-{number}"),
            Role::Driver => "pactio-driver".to_owned(),
        };
        let life = move || {
            let _lives = lives;
            // From here on, this thread does not wait for the end of another thread.
            posts::join_host();
            // The watchdog replaces the thread by its post.
            let post = posts::own();
            if let Some(member) = this.members().all.iter_mut().find(|member| member.number == number) {
                member.post = Some(post);
            }
            match role {
                Role::Worker => work(&this.tasks, &stopped),
                Role::Driver => drive(&this.to_drive, &stopped),
            }
            this.members().all.retain(|member| member.number != number);
        };
        thread::Builder::new().name(name.clone()).spawn(life).map(drop).map_err(|error| {
            self.members().all.retain(|member| member.number != number);
            Error::new(ErrorKind::Setup, format!("cannot start thread '{name}': {error}")).with_system(error)
        })
    }

    /// Replaces the thread with this post, which has been in a plugin for a while, unless the thread was replaced before.
    pub(super) fn replace(self: &Arc<Self>, post: &Arc<Post>) {
        // A member without `stop` is lost: another thread has its place.
        let has_post = |member: &Member| {
            member.stop.is_some() && member.post.as_ref().is_some_and(|own| Arc::ptr_eq(own, post))
        };
        let mut members = self.members();
        let Some(role) = members.all.iter().find(|member| has_post(member)).map(|member| member.role) else {
            return;
        };
        // Lost threads have two bounds: this one of the host, and the gauge's for the process.
        let lost_here = members.all.iter().filter(|member| member.stop.is_none()).count();
        let lost = if lost_here < MAX_LOST { LOST.take(1) } else { None };
        if lost.is_none() {
            let is_told = std::mem::replace(&mut members.told, true);
            // A subscriber of the records is foreign code, and runs without the lock.
            drop(members);
            if !is_told {
                tracing::error!(
                    of_host = lost_here,
                    "threads have not come back from plugins; no more are replaced: see `Resources`"
                );
            }
            return;
        }
        drop(members);
        // The new thread starts first: if there is none, the old thread goes on.
        if let Err(error) = self.start(role) {
            return tracing::error!("a thread has not come back from a plugin: {error}");
        }
        if let Some(member) = self.members().all.iter_mut().find(|member| has_post(member)) {
            // The drop of the sender ends the old thread when it comes back.
            member.stop = None;
            member.lost = lost;
        }
        tracing::debug!(?role, "a thread has not come back from a plugin; another one goes on");
    }

    /// Ends the threads: now, or when they come back from plugins.
    pub(super) fn end(&self) {
        let mut members = self.members();
        members.lives = None;
        members.all.iter_mut().for_each(|member| member.stop = None);
    }

    /// Whether each remaining thread is inside a plugin.
    fn are_all_inside(&self) -> bool {
        let members = self.members();
        members.all.iter().all(|member| member.post.as_ref().is_some_and(|post| post.look().is_some()))
    }
}

/// Waits for the end of the threads.
pub(super) struct Lives(mpsc::Receiver<()>);

impl Lives {
    /// Waits until the threads have ended. If all remaining threads are inside plugins for `limit`, the wait ends, and the
    /// threads keep running.
    pub(super) fn wait(&self, crew: &Crew, limit: Duration) {
        const LOOK: Duration = Duration::from_millis(20);
        let mut inside = Duration::ZERO;
        // No message is sent. The channel is disconnected when each thread has dropped its sender.
        while self.0.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
            // A thread outside of a plugin ends soon by itself, so the time counts from zero again.
            inside = if crew.are_all_inside() { inside + LOOK } else { Duration::ZERO };
            if inside >= limit {
                tracing::warn!("threads of a host that has ended have not come back from plugins");
                return;
            }
        }
    }
}

/// Runs tasks until the worker is stopped.
fn work(executor: &Executor<'static>, stopped: &Receiver<()>) {
    // A task whose requests are all answered at once gives way to the other tasks now and then.
    give_way_here();
    // The panic of a task goes to the code that awaits the task. A panic that reaches this function comes from a waker or a drop,
    // and must not end the thread.
    // No message is sent: `recv` ends when the sender is dropped, which stops the worker.
    while catch_unwind(AssertUnwindSafe(|| block_on(executor.run(stopped.recv())))).is_err() {
        tracing::error!("a task panicked that no code awaits");
    }
}

/// Polls drivers until the thread is stopped.
fn drive(to_drive: &Receiver<Duty>, stopped: &Receiver<()>) {
    // The sender is dropped when another thread has the place of this one, or the host has ended.
    while !stopped.is_closed() {
        // The channel is closed when the host ends.
        let Ok(duty) = to_drive.recv_blocking() else { return };
        // A poll catches the panics of the driver. Another panic comes from a waker or a drop, and must not end the thread.
        if catch_unwind(AssertUnwindSafe(|| duty.perform())).is_err() {
            tracing::error!("a driver's waker panicked");
        }
    }
}
