//! What a message says that may be a reply.

use onc_rpc::{AcceptedStatus, AuthError, Error, MessageType, RejectedReply, ReplyBody, RpcMessage};

use super::record;

/// The results of a call; or why the server does not give them.
pub type Results = Result<Vec<u8>, String>;

/// Takes a whole message; `Err`: why it is no reply.
pub(super) fn parse(message: &[u8]) -> Result<Results, String> {
    let length = u32::try_from(message.len()).map_err(|_| "it is too long".to_owned())?;
    let record = [&(record::LAST | length).to_be_bytes(), message].concat();
    match RpcMessage::try_from(record.as_slice()).map_err(|error| words(&error))?.message() {
        MessageType::Call(_) => Err("it is a call".to_owned()),
        MessageType::Reply(ReplyBody::Accepted(reply)) => Ok(accepted(reply.status())),
        MessageType::Reply(ReplyBody::Denied(reply)) => Ok(Err(denied(reply))),
    }
}

fn accepted(status: &AcceptedStatus<&[u8]>) -> Results {
    Err(match status {
        AcceptedStatus::Success(results) => return Ok(results.to_vec()),
        AcceptedStatus::ProgramUnavailable => "it does not have the program".to_owned(),
        AcceptedStatus::ProgramMismatch { low, high } if low == high => {
            format!("it has version {low} of the program only")
        }
        AcceptedStatus::ProgramMismatch { low, high } => {
            format!("it has versions {low} to {high} of the program only")
        }
        AcceptedStatus::ProcedureUnavailable => "it does not have this procedure".to_owned(),
        AcceptedStatus::GarbageArgs => "it does not understand the arguments".to_owned(),
        AcceptedStatus::SystemError => "it reports a system error".to_owned(),
    })
}

fn denied(reply: &RejectedReply) -> String {
    match reply {
        RejectedReply::RpcVersionMismatch { low, high } => {
            format!("it supports versions {low} to {high} of RPC only")
        }
        RejectedReply::AuthError(AuthError::TooWeak) => "it requires stronger credentials".to_owned(),
        RejectedReply::AuthError(error) => format!("it refuses the credentials ({error:?})"),
    }
}

fn words(error: &Error) -> String {
    match error {
        Error::IOError(..) | Error::IncompleteHeader => "it is cut short".to_owned(),
        Error::InvalidLength => "a length in it reaches beyond its end".to_owned(),
        Error::IncompleteMessage { .. } => "bytes follow its end".to_owned(),
        other => other.to_string(),
    }
}
