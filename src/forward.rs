//! Services in a line for each RPC.

/// Implements a generated service trait: for each RPC its name, its request, its response, and what runs it.
macro_rules! forward {
    ($trait:ident: $($name:ident($request:ident) -> $response:ident: $run:expr;)+) => {
        #[tonic::async_trait]
        impl $trait for Service {
            $(async fn $name(
                &self,
                request: tonic::Request<crate::pb::$request>,
            ) -> Result<tonic::Response<crate::pb::$response>, tonic::Status> {
                $run(&self.0, request).await
            })+
        }
    };
}

pub(crate) use forward;
