//! One rule of the protocol taken out, so that it is seen that the model would notice.

macro_rules! mutations {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// Which rule is taken out.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum Mutation {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Mutation {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// What is different, in words.
            #[must_use]
            pub fn describe(self) -> &'static str {
                match self {
                    $(Self::$name => concat!($($doc),+).trim_ascii(),)+
                }
            }
        }
    };
}

mutations! {
    /// Storage takes puts and clears whatever term they name.
    NoFence,
    /// The segment is scanned first and claimed afterwards.
    ScanBeforeClaim,
    /// After a time-out a leader gives the put up, and puts something else in its place.
    OtherContent,
    /// A message is acknowledged when it is sent.
    AcknowledgeUnstored,
    /// A put is acknowledged although one before it is not stored.
    AcknowledgeOutOfOrder,
    /// What is left beyond the tail is not cleared.
    NoClear,
    /// A batch of an earlier term than the one before it is valid.
    NoFenceOrder,
    /// Neither: nothing is cleared, and a batch of an earlier term is valid.
    NoClearNoFenceOrder,
    /// A clear whose outcome is unknown is sent again, and the term goes on.
    ClearAgain,
    /// A term counts although its outcome is unknown.
    UnansweredTerm,
    /// The number of `leader` is set without a condition.
    UnconditionalTerm,
    /// A batch counts when its header is there.
    NoChecksum,
    /// Damage is taken for the tail.
    DamageIsTail,
    /// What may be stored is told to have failed for good.
    RefuseUnknown,
    /// A strong read is answered from memory.
    StrongFromMemory,
    /// The next segment is made without a seal in the one before.
    NoSeal,
    /// The next segment is made before the seal is stored.
    EarlyRollOver,
    /// A segment that nobody has used is claimed without a look at `leader` after it was seen.
    ClaimUnproven,
    /// It is claimed in whatever state it is, and not in the one in which it was seen.
    ClaimBlindly,
    /// A follower does not notice that the segment at whose end it waits was made anew.
    FollowMadeAnew,
    /// A segment is made with the term as its number, so that one that is made late looks like one that was used.
    MadeAsUsed,
    /// A segment is made with a number below all terms, so that raising it claims it.
    MadeAsLowest,
    /// A leftover is deleted without a look whether it is still blank.
    LeftoverUnseen,
    /// A leftover is not claimed before that look.
    LeftoverUnclaimed,
    /// A new leader does not claim the oldest segment.
    NoGuardOfOldest,
    /// A segment is deleted without a look at `leader`.
    DeleteUnproven,
    /// A segment is deleted before its successor holds a batch.
    DeleteWithoutFoothold,
    /// A segment is deleted before that is on record.
    DeleteUnrecorded,
}
